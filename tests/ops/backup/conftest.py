"""A small database with all that is awkward to back up, and installations of Parley on it with stores of their own."""

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
from ops.backup.contents import read_origin
from ops.backup.names import MANIFEST, source_of
from ops.backup.scratch import LEFT, is_ours
from ops.backup.stores.folder import Folder
from ops.cli import COMMANDS
from ops.embedded.parent_death import dying_with_parent
from tests.database import fresh_database

PROJECT = Path(__file__).parents[3]
SECONDS = 90  # bound of every wait, only reached by a fault

# As Parley's own in what matters here, and more: quotes and percent signs, partitions, generated columns, every kind of
# value whose text depends on settings, rows that are the same, a table without any.
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
AUDIT = "audit_events"  # which every command writes to; its rows are not counted in tests


def run_sql(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on a connection of their own; gives the rows of the last one."""
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


@contextmanager
def session(url: str) -> Iterator[Any]:
    """A cursor in a transaction of its own, which ends with the block; no timeout of the database's ends it."""
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
class Installation:
    """Parley on the database at `url`, with backups in `folder`."""

    flask_app: Flask
    url: str
    folder: Path
    environment: dict[str, str]

    @property
    def store(self) -> Folder:
        return Folder(self.folder)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    @property
    def source(self) -> str:
        """What the names of this database's backups begin with."""
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            origin = read_origin(connection)
        engine.dispose()
        return source_of(origin.system_identifier, origin.database)

    def scratches(self) -> list[str]:
        """The databases that drills of this one have made; other test processes drill on the same server."""
        names = [str(row[0]) for row in run_sql(self.url, LEFT.sql.replace("%%", "%"))]
        return [name for name in names if is_ours(name, None, self.source)]

    def run(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call one of the functions under test in the application's context."""
        with self.flask_app.app_context():
            return function(**arguments)

    def manifest(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / f"{name}{MANIFEST}").read_text()))

    def command(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of `flask ops backup ...`."""
        done = self.flask_app.test_cli_runner().invoke(args=["ops", "backup", *arguments])
        return done.exit_code, done.stdout, done.stderr

    def start(self, *arguments: str, before: Callable[[], None] | None = None) -> "subprocess.Popen[str]":
        """`flask ops backup ...` in a process of its own, which may be killed; `before` runs in it first."""
        dying = dying_with_parent(signal.SIGKILL)

        def prepare() -> None:
            dying()
            if before is not None:
                before()

        return subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "wsgi:flask_app", "ops", "backup", *arguments],
            cwd=PROJECT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        )


@pytest.fixture(scope="session")
def shop(postgres: str, pattern: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    """URL of a database with that schema, which tests leave as they found it."""
    with fresh_database(postgres, f"shop_{testrun_uid[:8]}_{worker_id}", template=pattern) as url:
        yield url


@pytest.fixture(scope="session")
def pattern(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    """Name of a database with that schema, which nobody connects to."""
    name = f"pattern_{testrun_uid[:8]}_{worker_id}"
    with fresh_database(postgres, name) as url:
        fill(url)
        yield name


@pytest.fixture
def spare(postgres: str, pattern: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    """URL of a database with that schema, to be broken."""
    with fresh_database(postgres, f"spare_{testrun_uid[:8]}_{worker_id}", template=pattern) as url:
        yield url


@pytest.fixture
def install(settings: Settings, tmp_path: Path) -> Callable[..., Installation]:
    """A function that puts Parley on the database at a URL; keyword arguments are settings of backups."""

    def build(database: str, *, folder: Path = tmp_path / "backups", **backups: Any) -> Installation:
        folder.mkdir(exist_ok=True)
        chosen = {"url": folder.as_uri(), **backups}
        flask_app = create_app(
            replace(
                settings,
                database=settings.database.model_copy(update={"url": database}),
                backups=settings.backups.model_copy(update=chosen),
            ),
            commands=COMMANDS,
        )
        secret = settings.auth.jwt_secret_key
        assert secret is not None
        kept = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PARLEY_POSTGRES_BIN")
        environment = {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "DATABASE_URL": database,
            "JWT_SECRET_KEY": secret.get_secret_value(),
            "PARLEY_HOME": str(tmp_path / "home"),
            "BACKUP_URL": str(chosen["url"]),
        }
        return Installation(flask_app, database, folder, environment)

    return build


@pytest.fixture
def parley(install: Callable[..., Installation], shop: str) -> Installation:
    """Parley on the shop, which is only read."""
    return install(shop)


def fill(url: str) -> None:
    """Make the schema and its rows."""
    run_sql(url, SCHEMA)
    engine = create_engine(url)
    Base.metadata.tables[AUDIT].create(engine)
    engine.dispose()


def as_role(url: str, role: str, password: str) -> str:
    return make_url(url).set(username=role, password=password).render_as_string(hide_password=False)
