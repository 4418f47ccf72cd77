"""Connections that the server has ended while they were idle: each is replaced before a statement is sent on it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.exc import OperationalError

from app.config import Settings
from app.database import autocommit, current_engines, engine_options, make_engine
from app.dead_connections import is_readable
from app.repositories.atomic import atomically
from tests.database import migrated_database
from tests.factories import LoggedInUser, insert_user
from tests.fakes.upstream import Upstream
from tests.faults.live_server import LiveServer, application
from tests.tls.conftest import tls_url  # noqa: F401  # a fixture
from tests.waiting import wait_until

POOL = 4
ENDED = """
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'parley'"""
PID = "SELECT pg_backend_pid()"


@pytest.fixture
def end_all(database_url: str) -> Iterator[Callable[[], int]]:
    """Return a function that ends the connections of all applications to the database, and returns their number."""
    observer = make_engine(database_url, isolation_level="AUTOCOMMIT", connect_args={"application_name": "observer"})

    def end() -> int:
        with observer.connect() as connection:
            return int(connection.execute(text(ENDED)).scalar_one())

    yield end
    observer.dispose()


@pytest.fixture(scope="module")
def pooled_app(make_chat_app: Callable[..., Flask]) -> Flask:
    return make_chat_app(database={"pool_size": POOL, "max_overflow": 0})


@pytest.fixture
def engine_of(pooled_app: Flask) -> Callable[[str], Engine]:
    """Return a function that returns an engine of the application by its name."""

    def engine(name: str) -> Engine:
        with pooled_app.app_context():
            return current_engines()[name]

    return engine


def fill(engine: Engine, size: int) -> set[int]:
    """Fill the pool, and return the process ids of its connections."""
    with ExitStack() as stack:
        return {pid_of(stack.enter_context(autocommit(engine))) for _ in range(size)}


def pid_of(connection: Connection) -> int:
    return int(connection.exec_driver_sql(PID).scalar_one())


def test_requests_succeed_after_all_backends_ended(
    pooled_app: Flask, user: LoggedInUser, engine_of: Callable[[str], Engine], end_all: Callable[[], int]
) -> None:
    def chat(number: int) -> int:
        body = {"message": f"question {number}"}
        return pooled_app.test_client().post("/api/chat", json=body, headers=user.headers).status_code

    for _ in range(3):
        fill(engine_of("main"), POOL)
        assert end_all() >= POOL
        with ThreadPoolExecutor(2 * POOL) as threads:
            assert set(threads.map(chat, range(4 * POOL))) == {200}


@pytest.mark.parametrize(("name", "size"), [("main", POOL), ("heartbeats", 1)])
def test_each_engine_replaces_its_connections(
    engine_of: Callable[[str], Engine], end_all: Callable[[], int], name: str, size: int
) -> None:
    before = fill(engine_of(name), size)
    end_all()
    after = fill(engine_of(name), size)
    assert len(after) == size
    assert not before & after


def test_connection_is_replaced_between_two_statements(
    engine_of: Callable[[str], Engine], end_all: Callable[[], int]
) -> None:
    """Jobs hold a connection for minutes, and pause between their statements."""
    with autocommit(engine_of("main")) as connection:
        before = pid_of(connection)
        end_all()
        assert pid_of(connection) != before
        assert connection.connection.dbapi_connection.autocommit  # type: ignore[union-attr]


def test_orm_transaction_begins_on_new_connection(
    engine_of: Callable[[str], Engine], end_all: Callable[[], int]
) -> None:
    fill(engine_of("main"), POOL)
    end_all()
    with engine_of("main").begin() as connection:
        assert connection.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"


def test_open_transaction_is_not_continued_on_other_connection(
    engine_of: Callable[[str], Engine], end_all: Callable[[], int]
) -> None:
    def transaction(connection: Connection) -> None:
        with atomically(connection):
            pid_of(connection)
            end_all()
            pid_of(connection)

    with autocommit(engine_of("main")) as connection, pytest.raises(OperationalError):
        transaction(connection)


def test_live_idle_connection_is_kept(engine_of: Callable[[str], Engine]) -> None:
    with autocommit(engine_of("main")) as connection:
        before = pid_of(connection)
        connection.exec_driver_sql("DO $$ BEGIN RAISE WARNING 'a notice'; END $$")
        assert pid_of(connection) == before


def test_idle_tls_connection_is_not_readable(tls_url: str, settings: Settings) -> None:  # noqa: F811
    options = {name: value for name, value in engine_options(settings.database).items() if name == "connect_args"}
    engine = make_engine(make_url(tls_url).update_query_dict({"sslmode": "require"}), **options)
    with autocommit(engine) as connection:
        before = pid_of(connection)
        assert not is_readable(connection.connection.dbapi_connection)
        with autocommit(engine) as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({before}, 5000)")
        assert is_readable(connection.connection.dbapi_connection)
        assert pid_of(connection) != before
    engine.dispose()


@pytest.mark.process
def test_web_server_under_load_answers_after_all_backends_ended(
    postgres: str, settings: Settings, tmp_path: Path, upstream: Upstream
) -> None:
    """The web server under gevent, with several connections that end between two bursts of requests."""
    with (
        migrated_database(postgres, f"parley_dead_{tmp_path.name[-20:]}") as url,
        application(settings, url) as (
            flask_app,
            observer,
        ),
    ):
        user = insert_user(flask_app, observer)
        provider = {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": upstream.base_url}
        web = LiveServer(tmp_path, url, WEB_WORKERS="1", DB_POOL_SIZE="8", DB_MAX_OVERFLOW="0", **provider)
        try:
            web.start_web()

            def chat(number: int) -> int:
                return web.post("/api/chat", {"message": f"question {number}"}, user.headers).status

            for round_number in range(4):
                with ThreadPoolExecutor(16) as threads:
                    assert set(threads.map(chat, range(48))) == {200}
                assert ("had ended, and was replaced" in web.log()) is (round_number > 0)
                wait_until(lambda: _running(observer) == 0, "a statement still runs")
                with observer.connect() as connection:
                    assert connection.execute(text(ENDED)).scalar_one() > 1
        finally:
            web.close()


def _running(observer: Engine) -> int:
    with observer.connect() as connection:
        running = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'parley' AND state <> 'idle'"
        return int(connection.execute(text(f"{running} AND datname = current_database()")).scalar_one())
