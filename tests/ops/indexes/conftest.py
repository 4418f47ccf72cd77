"""A separate database with Parley's tables for each test, and a check context on it."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from flask import Flask
from sqlalchemy import Connection, NullPool, create_engine, make_url, text

import app.models  # noqa: F401  # registers all tables
from app.config import Settings
from app.extensions import Base, db
from app.factory import create_app
from ops.checks.context import STATEMENT_TIMEOUT, CheckContext
from ops.checks.findings import Finding
from ops.checks.read_only import make_read_only
from tests.database import fresh_database
from tests.ops.conftest import SECONDS
from tests.ops.installation import DatabaseInstallation, connecting, run_on
from tests.waiting import wait_until


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests in one process: statement counters, replicas and transaction ids belong to the whole server."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group("indexes"))


EXTENSIONS = ("amcheck", "pgstattuple", "pg_stat_statements")
_NUMBERS = itertools.count()


@dataclass
class Work:
    """A statement that runs in its own session and thread."""

    pid: int
    ending: "Future[str | None]"

    def end(self) -> str | None:
        """Wait until it ends. Returns its error, or None."""
        return self.ending.result(SECONDS)


@dataclass
class IndexDatabase(DatabaseInstallation):
    """A database for the index checks. `context` is the context of a check."""

    context: CheckContext


@contextmanager
def open_transaction(database: IndexDatabase, *statements: str) -> Iterator[Connection]:
    """Open a transaction with these statements in another session, and roll it back afterwards."""
    connection = database.open()
    run_on(connection, "SET idle_in_transaction_session_timeout = 0", "BEGIN", *statements)
    yield connection
    run_on(connection, "ROLLBACK")


@contextmanager
def running_statement(database: IndexDatabase, statement: str, until: str) -> Iterator[Work]:
    """Run `statement` in another session until the query `until`, with its pid, returns a row.

    The session is terminated afterwards if it still runs.
    """
    connection = database.open()
    ((pid,),) = run_on(connection, "SET statement_timeout = 0; SET lock_timeout = 0; SELECT pg_backend_pid()")

    def work() -> str | None:
        try:
            run_on(connection, statement)
        except psycopg2.Error as error:
            return str(error)
        return None

    with ThreadPoolExecutor(1) as threads:
        ending = threads.submit(work)
        try:
            wait_until(lambda: bool(database.run(until, pid=pid)) or ending.done())
            assert not ending.done(), ending.result()
            yield Work(pid, ending)
        finally:
            if not ending.done():
                database.run("SELECT pg_terminate_backend(%(pid)s)", pid=pid)


BUILDING = "SELECT 1 FROM pg_stat_progress_create_index WHERE pid = %(pid)s AND phase LIKE 'waiting for %%'"
WAITING = "SELECT 1 FROM pg_locks WHERE pid = %(pid)s AND NOT granted"


@pytest.fixture(scope="session")
def model(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    """Create a template database: Parley's tables, empty, and the extensions of the checks. Yields its name."""
    name = f"parley_{testrun_uid[:8]}_{worker_id}_model"
    with fresh_database(postgres, name) as url:
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        Base.metadata.create_all(engine)
        with engine.connect() as connection:
            for extension in EXTENSIONS:
                connection.execute(text(f"CREATE EXTENSION {extension}"))
        yield name


@pytest.fixture
def database(postgres: str, model: str, settings: Settings) -> Iterator[IndexDatabase]:
    with (
        fresh_database(postgres, f"{model}_{next(_NUMBERS)}", template=model) as url,
        open_database(url, settings) as database,
    ):
        yield database


@pytest.fixture(scope="module")
def module_database(postgres: str, model: str, settings: Settings) -> Iterator[IndexDatabase]:
    with (
        fresh_database(postgres, f"{model}_{next(_NUMBERS)}", template=model) as url,
        open_database(url, settings) as database,
    ):
        yield database


@pytest.fixture
def shared_database(module_database: IndexDatabase) -> Iterator[IndexDatabase]:
    """Share a database among the tests of a module; tables that a test creates are dropped afterwards."""
    yield module_database
    module_database.run(TIDY, "RESET ALL", "SET statement_timeout = 0")


# All tables that belong neither to a model nor to an extension.
TIDY = """
DO $$ DECLARE each text; BEGIN
    FOR each IN SELECT quote_ident(relname) FROM pg_class
                 WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND relname NOT IN ({models})
                   AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
    LOOP EXECUTE 'DROP TABLE IF EXISTS ' || each || ' CASCADE'; END LOOP;
END $$""".format(models=", ".join(f"'{name}'" for name in Base.metadata.tables))


@contextmanager
def open_database(url: str, settings: Settings) -> Iterator[IndexDatabase]:
    """Connect to the database at `url`, with a check context on it."""
    settings = replace(settings, database=settings.database.model_copy(update={"url": url}))
    with connecting(url, settings) as connect:
        owner = connect()
        owner.execute(text("SET statement_timeout = 0"))
        yield IndexDatabase(url, settings, owner, connect, CheckContext(settings, read_only(connect())))


def read_only(connection: Connection) -> Connection:
    """Make the connection read-only with the statement timeout, as that of a check."""
    make_read_only(connection, STATEMENT_TIMEOUT)
    return connection


def findings_about(findings: Any, word: str) -> list[Finding]:
    """Return the findings whose message contains `word`."""
    return [finding for finding in findings if word in finding.message]


@pytest.fixture
def drop_privileges(database: IndexDatabase) -> Iterator[Callable[[], None]]:
    """Return a function that reconnects the context as a role that may only connect."""
    role = f"weak_{make_url(database.url).database}"
    run_on(database.owner, f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'weak'")

    def become() -> None:
        database.context.open_connection = read_only(database.open(username=role, password="weak"))

    yield become
    database.context.connection.close()
    run_on(database.owner, f'DROP ROLE "{role}"')


@pytest.fixture
def index_app(database: IndexDatabase) -> Iterator[Flask]:
    """Create the application on the test's database, and push its context."""
    flask_app = create_app(database.settings)
    with flask_app.app_context():
        yield flask_app
        for engine in db.engines.values():
            engine.dispose()
