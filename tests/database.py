"""The databases of a test run: one server for all workers, one migrated database for each."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from sqlalchemy import create_engine, make_url, text

from ops import embedded

RUNS = Path(tempfile.gettempdir()) / f"parley-tests-{os.getuid()}"
RUN = "PARLEY_TEST_RUN"  # the workers of a run inherit its name
IS_WORKER = RUN in os.environ


@contextmanager
def server_url(shared: Path) -> Iterator[str]:
    """The URL of a PostgreSQL to test on: `TEST_DATABASE_URL`, else an embedded one that all workers share.

    `shared` is a folder that is the same for all workers of one run.
    """
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given.replace("postgres://", "postgresql://").replace("postgresql://", "postgresql+psycopg2://", 1)
        return
    with embedded.lease_postgres(shared, durable=False, max_connections=300) as lease:
        yield lease.url


def run_folder() -> Path:
    """A folder shared by the workers of this run, enterable by the embedded server's own user."""
    folder = RUNS / os.environ.setdefault(RUN, uuid4().hex)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def remove_run_folders() -> None:
    """That of this run, and those of runs that were killed before they came to this. Without effect in a worker."""
    if IS_WORKER:
        return
    yesterday = time.time() - 86_400
    for folder in RUNS.iterdir() if RUNS.is_dir() else ():
        if folder.name == os.environ.get(RUN) or folder.stat().st_mtime < yesterday:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_database(server: str, name: str, template: str = "template1") -> Iterator[str]:
    """Create the database `name` on `server`, empty or a copy of `template`, yield its URL, drop it."""
    admin = create_engine(make_url(server), isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
            connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    finally:
        admin.dispose()
