"""A database of one's own for each test, with Parley's tables in it, and a probe that looks as the doctor does."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from flask import Flask
from sqlalchemy import Connection, NullPool, create_engine, make_url, text

import app.models  # noqa: F401  # so that the metadata is complete
from app.config import Settings
from app.database import engine_options
from app.extensions import Base, db
from app.factory import create_app
from ops.checks.probe import PATIENCE, Probe, set_patience
from ops.findings import Finding
from tests.ops.conftest import SECONDS, eventually


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One after the other: counts of statements, replicas and transaction numbers are the whole server's."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group("indexes"))


EXTENSIONS = ("amcheck", "pgstattuple", "pg_stat_statements")
_NUMBERS = itertools.count()


@dataclass
class Work:
    """A statement that runs in a session of its own, beside the test."""

    pid: int
    ending: "Future[str | None]"

    def end(self) -> str | None:
        """Wait for its end; what it failed with, or None."""
        return self.ending.result(SECONDS)


@dataclass
class House:
    """A database; `run` is done by its owner, on a connection of its own that is closed at the end."""

    url: str
    settings: Settings
    connection: Connection
    probe: Probe
    open: Callable[..., Connection]

    def run(self, *statements: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run statements, each a transaction of its own; gives the rows of the last. Without parameters a % is a %."""
        return run_on(self.connection, *statements, **parameters)

    def value(self, statement: str, **parameters: Any) -> Any:
        """The one value that a statement gives."""
        ((value,),) = self.run(statement, **parameters)
        return value


@contextmanager
def holding(house: House, *statements: str) -> Iterator[Connection]:
    """A session that has done these statements and does not come to its end."""
    connection = house.open()
    run_on(connection, "SET idle_in_transaction_session_timeout = 0", "BEGIN", *statements)
    yield connection
    run_on(connection, "ROLLBACK")


@contextmanager
def working(house: House, statement: str, until: str) -> Iterator[Work]:
    """A session that does `statement`, which has begun and waits: the query `until`, given its pid, has a row.

    It is ended if it still works at the end.
    """
    connection = house.open()
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
            eventually(lambda: bool(house.run(until, pid=pid)) or ending.done())
            assert not ending.done(), ending.result()
            yield Work(pid, ending)
        finally:
            if not ending.done():
                house.run("SELECT pg_terminate_backend(%(pid)s)", pid=pid)


BUILDING = "SELECT 1 FROM pg_stat_progress_create_index WHERE pid = %(pid)s AND phase LIKE 'waiting for %%'"
WAITING = "SELECT 1 FROM pg_locks WHERE pid = %(pid)s AND NOT granted"


def run_on(connection: Connection, *statements: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """As the driver takes them: SQLAlchemy would look for parameters in strange names."""
    rows: list[tuple[Any, ...]] = []
    with closing(connection.connection.cursor()) as cursor:
        for statement in statements:
            cursor.execute(statement, parameters or None)  # type: ignore[arg-type]
            rows = list(cursor.fetchall()) if cursor.description else []
    return rows


@pytest.fixture(scope="session")
def model(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    """The name of a database to copy: Parley's tables, empty, and the extensions that the checks use."""
    name = f"parley_{testrun_uid[:8]}_{worker_id}_model"
    with fresh(postgres, name) as url:
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        Base.metadata.create_all(engine)
        with engine.connect() as connection:
            for extension in EXTENSIONS:
                connection.execute(text(f"CREATE EXTENSION {extension}"))
        yield name


@pytest.fixture
def house(postgres: str, model: str, settings: Settings) -> Iterator[House]:
    with fresh(postgres, f"{model}_{next(_NUMBERS)}", f"TEMPLATE {model}") as url, opened(url, settings) as house:
        yield house


@pytest.fixture(scope="module")
def block(postgres: str, model: str, settings: Settings) -> Iterator[House]:
    with fresh(postgres, f"{model}_{next(_NUMBERS)}", f"TEMPLATE {model}") as url, opened(url, settings) as house:
        yield house


@pytest.fixture
def room(block: House) -> Iterator[House]:
    """A database that is shared by the tests of a module, for those that only make tables of their own; they go."""
    yield block
    block.run(TIDY, "RESET ALL", "SET statement_timeout = 0")


# Every table that is neither a model's nor an extension's.
TIDY = """
DO $$ DECLARE each text; BEGIN
    FOR each IN SELECT quote_ident(relname) FROM pg_class
                 WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND relname NOT IN ({models})
                   AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
    LOOP EXECUTE 'DROP TABLE IF EXISTS ' || each || ' CASCADE'; END LOOP;
END $$""".format(models=", ".join(f"'{name}'" for name in Base.metadata.tables))


@contextmanager
def fresh(server: str, name: str, how: str = "") -> Iterator[str]:
    """Create a database on `server`, give its URL, drop it."""
    admin = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        connection.execute(text(f'CREATE DATABASE "{name}" {how}'))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))


@contextmanager
def opened(url: str, settings: Settings) -> Iterator[House]:
    """The database at `url`, and a probe of the doctor's own kind on it."""
    settings = replace(settings, database=settings.database.model_copy(update={"url": url}))
    with ExitStack() as stack:

        def connect(**changes: Any) -> Connection:
            to = make_url(url).set(**changes)
            engine = create_engine(
                to, poolclass=NullPool, connect_args=engine_options(settings.database)["connect_args"]
            )
            return stack.enter_context(engine.connect().execution_options(isolation_level="AUTOCOMMIT"))

        owner = connect()
        owner.execute(text("SET statement_timeout = 0"))
        yield House(url, settings, owner, Probe(settings, looking(connect())), connect)


def looking(connection: Connection) -> Connection:
    """The connection, as a check is given it."""
    connection.execute(text("SET default_transaction_read_only = on"))
    set_patience(connection, PATIENCE)
    return connection


def about(findings: Any, word: str) -> list[Finding]:
    """Those that say something about `word`."""
    return [finding for finding in findings if word in finding.what]


@pytest.fixture
def weak(house: House) -> Iterator[Callable[[], None]]:
    """A function that has the probe look as a role with no privilege but to connect."""
    role = f"weak_{make_url(house.url).database}"
    run_on(house.connection, f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'weak'")

    def become() -> None:
        house.probe.opened = looking(house.open(username=role, password="weak"))

    yield become
    house.probe.connection.close()
    run_on(house.connection, f'DROP ROLE "{role}"')


@pytest.fixture
def applying(house: House) -> Iterator[Flask]:
    """The application on that database, in its context."""
    flask_app = create_app(house.settings)
    with flask_app.app_context():
        yield flask_app
        for engine in db.engines.values():
            engine.dispose()
