"""Databases of a test run: one server for all workers, one migrated database per worker.

The embedded server of a run starts on a copy of a data folder that is initialised and migrated once per schema.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import alembic.command
from sqlalchemy import create_engine, make_url, text

from app.core import create_core_app
from app.database import current_engine
from ops import embedded
from ops.embedded.binaries import find_postgres
from ops.embedded.site import open_site
from ops.upgrades.pending import FOLDER, alembic_config
from tests.settings import make_settings

RUNS = Path(tempfile.gettempdir()) / f"parley-tests-{os.getuid()}"
RUN = "PARLEY_TEST_RUN"  # the workers inherit the name of their run
IS_WORKER = RUN in os.environ
MAX_AGE_SECONDS = 86_400  # of the folder of a run that was killed, and of a template that is no longer used
TEMPLATE = "parley_template"  # the migrated database in the copied data folder


@contextmanager
def server_url(shared: Path) -> Iterator[str]:
    """Yield the URL of a PostgreSQL server: `TEST_DATABASE_URL`, or an embedded one that all workers share.

    `shared` is a folder that is the same for all workers of a run.
    """
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url.replace("postgres://", "postgresql://").replace("postgresql://", "postgresql+psycopg2://", 1)
        return
    _copy_template(shared)
    with embedded.lease_postgres(shared, durable=False, max_connections=300) as lease:
        yield lease.url


def _copy_template(home: Path) -> None:
    """Fill `home` with a data folder that has the current schema, unless another worker has done so."""
    with (RUNS / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (home / "postgres").exists():
            return
        template = RUNS / f"template-{_schema_key(home)}"
        if not template.exists():
            _create_template(template)
        os.utime(template)
        for name in ("keys", "postgres"):
            # Keeps the owner. A test of Redis may have created `keys` before.
            subprocess.run(["cp", "-a", f"{template / name}/.", home / name], check=True)


def _create_template(template: Path) -> None:
    draft = template.with_suffix(f".{uuid4().hex}")
    with embedded.lease_postgres(draft, durable=False) as lease:
        _create(lease.url, TEMPLATE)
        _migrate_database(make_url(lease.url).set(database=TEMPLATE).render_as_string(hide_password=False))
    draft.rename(template)


def _schema_key(home: Path) -> str:
    """Return a hash of the migrations and of the server's version."""
    digest = hashlib.sha256(find_postgres(open_site(home), None).version.encode())
    for path in sorted(Path(FOLDER).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def run_folder() -> Path:
    """Return a folder that the workers of this run share, and that the embedded server's user can enter."""
    folder = RUNS / os.environ.setdefault(RUN, uuid4().hex)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def remove_run_folders() -> None:
    """Remove the folder of this run, and those of killed runs and old schemas. Has no effect in a worker."""
    if IS_WORKER:
        return
    for folder in RUNS.iterdir() if RUNS.is_dir() else ():
        if folder.name == os.environ.get(RUN) or _age(folder) > MAX_AGE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:  # another run has just removed it
        return 0


@contextmanager
def fresh_database(server: str, name: str, template: str = "template1", options: str = "") -> Iterator[str]:
    """Create the database `name` as a copy of `template`, yield its URL, and drop it at the end.

    `options` is appended to CREATE DATABASE.
    """
    _create(server, name, template, options)
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(server, f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def migrated_database(server: str, name: str) -> Iterator[str]:
    """Create the database `name` with the current schema, yield its URL, and drop it at the end."""
    has_template = not os.environ.get("TEST_DATABASE_URL")
    with fresh_database(server, name, TEMPLATE if has_template else "template1") as url:
        if not has_template:
            _migrate_database(url)
        yield url


def _create(server: str, name: str, template: str = "template1", options: str = "") -> None:
    drop = f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
    _execute(server, drop, f'CREATE DATABASE "{name}" TEMPLATE "{template}" {options}')


def _execute(server: str, *statements: str) -> None:
    admin = create_engine(make_url(server), isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        admin.dispose()


def _migrate_database(url: str) -> None:
    with create_core_app(make_settings(url, RUNS)).app_context():
        migrate()
        current_engine().dispose()


def migrate(revision: str = "head") -> None:
    """Upgrade the database of the current application to `revision`."""
    alembic.command.upgrade(alembic_config(), revision)
