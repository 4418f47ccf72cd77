"""Fixtures: a small database with features that are hard to back up, and Parley installations with their own stores."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from flask import Flask
from sqlalchemy import create_engine, make_url

from app.config import Settings
from app.extensions import Base
from app.factory import create_app
from app.storage.folder import FolderStore
from ops.backup.contents import read_origin
from ops.backup.names import MANIFEST, source_id
from ops.backup.scratch import LEFTOVERS, is_scratch_database
from ops.cli.entry_points import ops
from ops.embedded.parent_death import signal_on_parent_death
from tests.database import fresh_database
from tests.ops.installation import run_sql

PROJECT = Path(__file__).parents[3]
SECONDS = 90  # limit of every wait; reached only when something is broken

# Parley's tables as far as backups read them, and quotes and percent signs in names, partitions, generated columns,
# values whose text depends on settings, equal rows, an empty table.
SCHEMA = """
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('0001');
CREATE TABLE users (id int PRIMARY KEY, name text, created_at timestamptz NOT NULL DEFAULT now() - interval '3 days');
INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 50) AS n;
CREATE TABLE messages (
    id int PRIMARY KEY, user_id int NOT NULL REFERENCES users, content text, created_at timestamptz NOT NULL);
INSERT INTO messages
    SELECT n, 1 + n % 50, repeat(md5(n::text), 20), '2026-01-01 00:00:00+00'::timestamptz + n * interval '1 second'
      FROM generate_series(1, 4000) AS n;
CREATE INDEX ON messages (user_id);
CREATE TABLE "odd ""%s"" name %" (
    parley_row float8, day date, span interval, at timestamptz, bytes bytea, money money, document jsonb,
    words tsvector, twice float8 GENERATED ALWAYS AS (parley_row * 2) STORED);
INSERT INTO "odd ""%s"" name %" (parley_row, day, span, at, bytes, money, document, words)
    SELECT 1.0 / n, date '2026-11-22' - n, n * interval '1 day 2 hours', now(), decode('00ff', 'hex'), n,
           '{"a": [1, null]}', to_tsvector('simple', 'one two') FROM generate_series(1, 20) AS n;
CREATE TABLE twins (a int, b text);
INSERT INTO twins VALUES (1, NULL), (1, NULL), (1, ''), (2, 'x');
CREATE TABLE nothing (a int);
CREATE TABLE parts (a int) PARTITION BY RANGE (a);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10);
INSERT INTO parts SELECT generate_series(0, 9);
CREATE SCHEMA "other Place";
CREATE TABLE "other Place".things (id serial PRIMARY KEY, kind text CHECK (kind <> ''));
INSERT INTO "other Place".things (kind) VALUES ('a'), ('b');
CREATE VIEW many AS SELECT count(*) FROM messages;
"""
AUDIT = "audit_events"  # every command writes to it, so tests do not count its rows


@contextmanager
def session(url: str) -> Iterator[Any]:
    """Yield a cursor in a new transaction without timeouts, which ends with the block."""
    connection = psycopg2.connect(url.replace("+psycopg2", ""), options="-c idle_in_transaction_session_timeout=0")
    try:
        if connection.server_version >= 170_000:
            connection.cursor().execute("SET SESSION transaction_timeout = 0")
            connection.commit()
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


@dataclass
class BackupInstall:
    """A Parley installation on the database at `url`, with its backups in `folder`."""

    flask_app: Flask
    url: str
    folder: Path
    environment: dict[str, str]

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.folder, setting="BACKUP_URL")

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    @property
    def source(self) -> str:
        """The source id of this database's backups."""
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            origin = read_origin(connection)
        engine.dispose()
        return source_id(origin.system_identifier, origin.database)

    def scratches(self) -> list[str]:
        """Return the scratch databases of this database's drills. Other test processes drill on the same server."""
        names = [str(row[0]) for row in run_sql(self.url, LEFTOVERS.sql.replace("%%", "%"))]
        return [name for name in names if is_scratch_database(name, None, self.source)]

    def run(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call a function in the application context."""
        with self.flask_app.app_context():
            return function(**arguments)

    def manifest(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / f"{name}{MANIFEST}").read_text()))

    def command(self, *arguments: str) -> tuple[int, str, str]:
        """Run `flask ops backup ...`; return its exit code, standard output and standard error."""
        done = self.flask_app.test_cli_runner().invoke(ops, ["backup", *arguments])
        return done.exit_code, done.stdout, done.stderr

    def start(self, *arguments: str, before: Callable[[], None] | None = None) -> "subprocess.Popen[str]":
        """Start `flask ops backup ...` in a new process, after calling `before` in it."""
        die_with_parent = signal_on_parent_death(signal.SIGKILL)

        def prepare() -> None:
            die_with_parent()
            if before is not None:
                before()

        return subprocess.Popen(
            [sys.executable, "-m", "flask", "ops", "backup", *arguments],
            cwd=PROJECT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        )


@pytest.fixture(scope="session")
def sample_url(postgres: str, template_name: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    """URL of a database with the schema above. Tests must not change it."""
    with fresh_database(postgres, f"shop_{testrun_uid[:8]}_{worker_id}", template=template_name) as url:
        yield url


@pytest.fixture(scope="session")
def template_name(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    """Name of a template database with the schema above, without connections."""
    name = f"pattern_{testrun_uid[:8]}_{worker_id}"
    with fresh_database(postgres, name) as url:
        fill(url)
        yield name


@pytest.fixture
def spare_url(postgres: str, template_name: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    """URL of a database with that schema, which a test may damage."""
    with fresh_database(postgres, f"spare_{testrun_uid[:8]}_{worker_id}", template=template_name) as url:
        yield url


@pytest.fixture
def install(settings: Settings, tmp_path: Path) -> Callable[..., BackupInstall]:
    """Return a function that installs Parley on the database at a URL; keyword arguments are backup settings."""

    def build(database: str, *, folder: Path = tmp_path / "backups", **backups: Any) -> BackupInstall:
        folder.mkdir(exist_ok=True)
        chosen = {"url": folder.as_uri(), **backups}
        flask_app = create_app(
            replace(
                settings,
                database=settings.database.model_copy(update={"url": database}),
                backups=settings.backups.model_copy(update=chosen),
            ),
        )
        secret = settings.auth.jwt_secret_key
        assert secret is not None
        inherited = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PARLEY_POSTGRES_BIN")
        environment = {
            **{name: os.environ[name] for name in inherited if name in os.environ},
            "DATABASE_URL": database,
            "JWT_SECRET_KEY": secret.get_secret_value(),
            "PARLEY_HOME": str(tmp_path / "home"),
            "BACKUP_URL": str(chosen["url"]),
        }
        return BackupInstall(flask_app, database, folder, environment)

    return build


@pytest.fixture
def parley(install: Callable[..., BackupInstall], sample_url: str) -> BackupInstall:
    """Parley on the database `sample_url`, which is only read."""
    return install(sample_url)


def fill(url: str) -> None:
    """Create the tables and their rows."""
    run_sql(url, SCHEMA)
    engine = create_engine(url)
    Base.metadata.tables[AUDIT].create(engine)
    engine.dispose()


def as_role(url: str, role: str, password: str) -> str:
    return make_url(url).set(username=role, password=password).render_as_string(hide_password=False)
