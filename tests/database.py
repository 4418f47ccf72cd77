"""The databases of a test run: one server for all workers, one migrated database for each."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from ops import embedded


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


def run_folder(run_id: str) -> Path:
    """A folder shared by the workers of the run `run_id`, enterable by the embedded server's own user."""
    folder = Path(tempfile.gettempdir()) / f"parley-tests-{os.getuid()}" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
