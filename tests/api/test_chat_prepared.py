"""DB_PREPARE: a turn's statements are planned once, and nobody notices if what was prepared is gone or has changed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, create_engine

from app.extensions import db
from app.prepared import prepare
from tests.factories import Account
from tests.fakes.upstream import Upstream

SHOWN = "SELECT regexp_replace(name, '_[0-9a-f]{8}$', '') FROM pg_prepared_statements ORDER BY name"


@pytest.fixture(scope="module")
def prepared_app(make_chat_app: Callable[..., Flask]) -> Flask:
    """With one connection, so that what is prepared is found again."""
    return make_chat_app(database={"prepare": True, "pool_size": 1, "max_overflow": 0})


@pytest.fixture
def pooled(prepared_app: Flask) -> Callable[[str], list[Any]]:
    """Run a statement on that connection, and return its first column, if it has any."""

    def run(statement: str) -> list[Any]:
        with prepared_app.app_context(), db.engine.connect() as connection:
            found = connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(statement)
            return list(found.scalars()) if found.returns_rows else []

    return run


@pytest.fixture
def say(prepared_app: Flask, user: Account) -> Callable[..., dict[str, Any]]:
    def say(message: str, **body: Any) -> dict[str, Any]:
        answer = prepared_app.test_client().post("/api/chat", json={"message": message, **body}, headers=user.headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json or {})

    return say


def test_turns_run_prepared_and_are_the_same_turns(
    say: Callable[..., dict[str, Any]], pooled: Callable[[str], list[Any]], upstream: Upstream
) -> None:
    first = say("first")
    for number in range(8):  # after five of its own PostgreSQL may take a plan for all parameters
        said = say(f"again {number}", conversation_id=first["conversation"]["id"])
        assert said["turn"]["position"] == 3 + 2 * number
    assert pooled(SHOWN) == ["begin", "begin_new", "finish"]
    assert len(upstream.requests[-1].body["messages"]) == 17


def test_what_is_gone_is_prepared_again(say: Callable[..., dict[str, Any]], pooled: Callable[[str], list[Any]]) -> None:
    say("before")
    pooled("DEALLOCATE ALL")
    say("sent as it is")
    assert pooled(SHOWN) == []
    say("prepared again")
    assert pooled(SHOWN) == ["begin_new", "finish"]


@pytest.fixture
def alone(database_url: str) -> Iterator[Connection]:
    """A connection that prepares one statement, on a table of its own."""
    engine: Engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    prepare(engine, {"probe": PROBE}, {"id": "integer"})
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE passing (id int)")
        connection.exec_driver_sql("INSERT INTO passing VALUES (1), (2)")
        yield connection
    engine.dispose()


PROBE = "SELECT /* test.probe */ * FROM passing WHERE id = %(id)s AND 7 %% 5 = 2"


def test_another_shape_of_its_rows_is_no_error(alone: Connection) -> None:
    assert alone.exec_driver_sql(PROBE, {"id": 2}).all() == [(2,)]
    alone.exec_driver_sql("ALTER TABLE passing ADD COLUMN name text DEFAULT 'x'")
    for _ in range(2):
        assert alone.exec_driver_sql(PROBE, {"id": 2}).all() == [(2, "x")]
    assert alone.exec_driver_sql(SHOWN).scalars().all() == ["probe"]


def test_what_somebody_else_has_prepared_serves_as_well(alone: Connection) -> None:
    """As behind a pooler, which lends a connection of the server's to one after the other."""
    assert alone.exec_driver_sql(PROBE, {"id": 1}).all() == [(1,)]
    alone.info.clear()
    assert alone.exec_driver_sql(PROBE, {"id": 2}).all() == [(2,)]


def test_in_a_transaction_nothing_is_prepared(alone: Connection) -> None:
    alone.rollback()
    alone.execution_options(isolation_level="READ COMMITTED")
    assert alone.exec_driver_sql(PROBE, {"id": 1}).all() == [(1,)]
    assert alone.exec_driver_sql(SHOWN).scalars().all() == []
    alone.rollback()


@pytest.mark.parametrize(
    ("setting", "behind_a_pooler", "prepares"),
    [(None, False, True), (None, True, False), (False, False, False), (True, True, True)],
)
def test_who_tells_of_a_pooler_does_without(
    make_chat_app: Callable[..., Flask],
    database_url: str,
    user: Account,
    setting: bool | None,
    behind_a_pooler: bool,
    prepares: bool,
) -> None:
    direct = database_url if behind_a_pooler else None
    flask_app = make_chat_app(database={"prepare": setting, "direct_url": direct, "pool_size": 1, "max_overflow": 0})
    answer = flask_app.test_client().post("/api/chat", json={"message": "hello"}, headers=user.headers)
    assert answer.status_code == 200
    with flask_app.app_context(), db.engine.connect() as connection:
        assert bool(connection.exec_driver_sql(SHOWN).all()) is prepares
