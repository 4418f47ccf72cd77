"""Tracing of statements: each is timed under its name and carries name and request id to PostgreSQL."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, create_engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import tracing
from app.config import Settings
from app.database import engine_options
from app.logs import request_id
from app.models import User
from app.repositories.statement import Statement
from tests.factories import LoggedInUser
from tests.metrics.scrape import Since, here

CURRENT_QUERY = Statement("test.current_query", "SELECT current_query() AS query WHERE %(yes)s")


@pytest.fixture
def impatient_engine(settings: Settings) -> Iterator[Engine]:
    """Yield an engine with short timeouts."""
    short_timeouts = settings.database.model_copy(update={"statement_timeout_ms": 400, "lock_timeout_ms": 150})
    engine = create_engine(settings.database.url or "", **engine_options(short_timeouts))
    tracing.trace(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def set_request_id() -> Iterator[Any]:
    """Yield a function that sets the request id for the rest of the test."""
    token = request_id.set("")
    yield request_id.set
    request_id.reset(token)


def counted(since: Since, statement: str, outcome: str = "ok") -> float:
    return since.counted("db_query_duration_seconds_count", statement=statement, outcome=outcome)


def current_query(connection: Connection) -> str:
    """Return the text of the statement that the server receives."""
    row = CURRENT_QUERY.one(connection, {"yes": True})
    assert row is not None
    return str(row.query)


def test_statement_is_timed_under_its_name(connection: Connection, since: Since) -> None:
    current_query(connection)
    current_query(connection)
    assert counted(since, "test.current_query") == 2


def test_orm_statement_is_timed_under_its_prefix(engine: Engine, since: Since) -> None:
    with Session(engine) as session:
        session.scalars(select(User).prefix_with("/* test.users */").limit(1)).all()
    assert counted(since, "test.users") == 1


def test_unnamed_statement_is_timed_as_other(connection: Connection, since: Since) -> None:
    connection.execute(text("SELECT 1"))
    connection.execute(text("SELECT '" + "x" * 100 + "/* not.a_name */'"))
    assert counted(since, "other") == 2
    assert counted(since, "not.a_name") == 0


def test_failed_statement_has_outcome_error(connection: Connection, since: Since) -> None:
    with pytest.raises(DBAPIError):
        connection.execute(text("SELECT /* test.broken */ 1 / 0"))
    assert counted(since, "test.broken", "error") == 1
    assert counted(since, "test.broken", "ok") == 0


def test_statement_timeout_has_outcome_timeout(impatient_engine: Engine, since: Since) -> None:
    with pytest.raises(DBAPIError), impatient_engine.connect() as connection:
        connection.execute(text("SELECT /* test.slow */ pg_sleep(30)"))
    assert counted(since, "test.slow", "timeout") == 1
    assert since.counted("db_query_duration_seconds_sum", statement="test.slow") >= 0.3


def test_lock_timeout_has_outcome_timeout(impatient_engine: Engine, connection: Connection, since: Since) -> None:
    connection.execute(text("LOCK TABLE turns IN ACCESS EXCLUSIVE MODE"))
    with pytest.raises(DBAPIError), impatient_engine.connect() as second:
        second.execute(text("SELECT /* test.locked */ count(*) FROM turns"))
    connection.rollback()
    assert counted(since, "test.locked", "timeout") == 1


def test_executemany_counts_as_one_statement(connection: Connection, since: Since) -> None:
    connection.execute(text("CREATE TEMPORARY TABLE heap (n integer)"))
    connection.execute(text("INSERT /* test.many */ INTO heap VALUES (:n)"), [{"n": n} for n in range(5)])
    assert counted(since, "test.many") == 1
    connection.rollback()


def test_statement_carries_request_id(connection: Connection, set_request_id: Any) -> None:
    set_request_id("abc.DEF-1_2")
    assert current_query(connection).startswith("SELECT /* test.current_query rid=abc.DEF-1_2 */ current_query()")
    set_request_id("another")
    assert current_query(connection).startswith("SELECT /* test.current_query rid=another */ current_query()")


def test_statement_without_request_carries_only_its_name(connection: Connection, set_request_id: Any) -> None:
    set_request_id("")
    assert current_query(connection).startswith("SELECT /* test.current_query */ current_query()")


@pytest.mark.parametrize(
    "hostile", ["*/ DROP TABLE users; --", "a*/b", "%s", "%(yes)s", "a b", "a\n", "é", "x" * 65, "--", "/*"]
)
def test_request_id_with_special_characters_is_not_sent(
    connection: Connection, set_request_id: Any, hostile: str
) -> None:
    set_request_id(hostile)
    seen = current_query(connection)
    if hostile == "--":  # harmless inside a comment
        assert seen.startswith("SELECT /* test.current_query rid=-- */ current_query()")
    else:
        assert seen.startswith("SELECT /* test.current_query */ current_query()")


def test_unnamed_statement_carries_request_id(connection: Connection, set_request_id: Any) -> None:
    set_request_id("abc")
    assert connection.execute(text("SELECT current_query()")).scalar_one() == "SELECT current_query() /* rid=abc */"


def test_request_id_header_reaches_the_server(client: FlaskClient, user: LoggedInUser, settings: Settings) -> None:
    client.get("/api/conversations", headers={**user.headers, "X-Request-ID": "find-me-in-the-log"})
    observer = create_engine(settings.database.url or "")
    with observer.connect() as connection:
        seen = connection.execute(
            text("SELECT query FROM pg_stat_activity WHERE datname = current_database()")
        ).scalars()
        assert [query for query in seen if "/* conversations.page rid=find-me-in-the-log */" in query]
    observer.dispose()


def test_cache_of_texts_is_bounded(connection: Connection, since: Since, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_MAX_TEXTS", len(tracing._texts))
    for number in range(5):
        connection.exec_driver_sql(f"SELECT /* test.new */ {number}")
    assert not [statement for statement in tracing._texts if "test.new" in statement]
    assert counted(since, "test.new") == 5


def test_api_statement_is_exposed_by_name(client: FlaskClient, user: LoggedInUser) -> None:
    client.get("/api/conversations", headers=user.headers)
    assert {"conversations.page"} <= here().labels("db_query_duration_seconds_count", "statement")
