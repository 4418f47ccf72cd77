"""DB_PREPARE: a turn's statements are prepared; lost or changed ones are sent unprepared, without an error."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, make_url

from app.database import autocommit, make_engine
from app.extensions import db
from app.prepared_statements import prepare
from tests.factories import LoggedInUser
from tests.fakes.pooler import Pooler
from tests.fakes.upstream import Upstream

PREPARED_NAMES = "SELECT regexp_replace(name, '_[0-9a-f]{8}$', '') FROM pg_prepared_statements ORDER BY name"


@pytest.fixture(scope="module")
def prepared_app(make_chat_app: Callable[..., Flask]) -> Flask:
    """Return an application with one connection, so that its prepared statements are used again."""
    return make_chat_app(database={"prepare": True, "pool_size": 1, "max_overflow": 0})


@pytest.fixture
def run_sql(prepared_app: Flask) -> Callable[[str], list[Any]]:
    """Return a function that runs a statement on that connection and returns the first column, if any."""

    def run(statement: str) -> list[Any]:
        with prepared_app.app_context(), autocommit() as connection:
            result = connection.exec_driver_sql(statement)
            return list(result.scalars()) if result.returns_rows else []

    return run


@pytest.fixture
def send_message(prepared_app: Flask, user: LoggedInUser) -> Callable[..., dict[str, Any]]:
    def send_message(message: str, **body: Any) -> dict[str, Any]:
        answer = prepared_app.test_client().post("/api/chat", json={"message": message, **body}, headers=user.headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json or {})

    return send_message


def test_turns_run_with_prepared_statements(
    send_message: Callable[..., dict[str, Any]], run_sql: Callable[[str], list[Any]], upstream: Upstream
) -> None:
    first = send_message("first")
    for number in range(8):  # after five executions PostgreSQL may switch to a generic plan
        answer = send_message(f"again {number}", conversation_id=first["conversation"]["id"])
        assert answer["turn"]["position"] == 3 + 2 * number
    assert run_sql(PREPARED_NAMES) == ["begin", "begin_new", "finish"]
    assert len(upstream.requests[-1].body["messages"]) == 17


def test_deallocated_statement_is_prepared_again(
    send_message: Callable[..., dict[str, Any]], run_sql: Callable[[str], list[Any]]
) -> None:
    send_message("before")
    run_sql("DEALLOCATE ALL")
    send_message("sent unprepared")
    assert run_sql(PREPARED_NAMES) == []
    send_message("prepared again")
    assert run_sql(PREPARED_NAMES) == ["begin_new", "finish"]


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """Yield a connection that prepares one statement, on a temporary table."""
    engine: Engine = make_engine(database_url, isolation_level="AUTOCOMMIT")
    prepare(engine, {"probe": PROBE}, {"id": "integer"})
    with engine.connect() as opened:
        opened.exec_driver_sql("CREATE TEMP TABLE numbers (id int)")
        opened.exec_driver_sql("INSERT INTO numbers VALUES (1), (2)")
        yield opened
    engine.dispose()


PROBE = "SELECT /* test.probe */ * FROM numbers WHERE id = %(id)s AND 7 %% 5 = 2"


def test_changed_result_columns_are_prepared_again(connection: Connection) -> None:
    assert connection.exec_driver_sql(PROBE, {"id": 2}).all() == [(2,)]
    connection.exec_driver_sql("ALTER TABLE numbers ADD COLUMN name text DEFAULT 'x'")
    for _ in range(2):
        assert connection.exec_driver_sql(PROBE, {"id": 2}).all() == [(2, "x")]
    assert connection.exec_driver_sql(PREPARED_NAMES).scalars().all() == ["probe"]


def test_statement_prepared_by_other_client_is_used(connection: Connection) -> None:
    """A pooler lends one server connection to several clients in turn."""
    assert connection.exec_driver_sql(PROBE, {"id": 1}).all() == [(1,)]
    connection.info.clear()
    assert connection.exec_driver_sql(PROBE, {"id": 2}).all() == [(2,)]


def test_nothing_is_prepared_in_transaction(connection: Connection) -> None:
    connection.rollback()
    connection.execution_options(isolation_level="READ COMMITTED")
    assert connection.exec_driver_sql(PROBE, {"id": 1}).all() == [(1,)]
    assert connection.exec_driver_sql(PREPARED_NAMES).scalars().all() == []
    connection.rollback()


@pytest.mark.parametrize("prepare_setting", [True, False])
@pytest.mark.parametrize("behind_pooler", [True, False])
def test_nothing_is_prepared_behind_pooler(
    make_chat_app: Callable[..., Flask],
    database_url: str,
    user: LoggedInUser,
    prepare_setting: bool,
    behind_pooler: bool,
) -> None:
    server = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with Pooler(server, transaction=True) as pooler:
        pooled = make_url(database_url).set(host="127.0.0.1", port=pooler.port).render_as_string(hide_password=False)
        url = pooled if behind_pooler else database_url
        flask_app = make_chat_app(database={"url": url, "prepare": prepare_setting, "pool_size": 1, "max_overflow": 0})
        answer = flask_app.test_client().post("/api/chat", json={"message": "hello"}, headers=user.headers)
        assert answer.status_code == 200
        with flask_app.app_context(), db.engine.connect() as connection:
            prepared = connection.exec_driver_sql(PREPARED_NAMES).all()
            assert bool(prepared) is (prepare_setting and not behind_pooler)
