"""Every statement is timed under its name, and tells PostgreSQL the name and whose request it is."""

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
from tests.factories import Account
from tests.metrics.scrape import Since, here

ITSELF = Statement("test.itself", "SELECT current_query() AS query WHERE %(yes)s")


@pytest.fixture
def hasty(settings: Settings) -> Iterator[Engine]:
    """An engine with little patience."""
    impatient = settings.database.model_copy(update={"statement_timeout_ms": 400, "lock_timeout_ms": 150})
    engine = create_engine(settings.database.url or "", **engine_options(impatient))
    tracing.trace(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def told() -> Iterator[Any]:
    """A function that sets the request's id for the rest of the test."""
    token = request_id.set("")
    yield request_id.set
    request_id.reset(token)


def counted(since: Since, statement: str, outcome: str = "ok") -> float:
    return since.counted("db_query_duration_seconds_count", statement=statement, outcome=outcome)


def itself(connection: Connection) -> str:
    """The statement that asks, as the server has it."""
    row = ITSELF.one(connection, {"yes": True})
    assert row is not None
    return str(row.query)


def test_a_statement_of_ours_is_counted_under_its_name(connection: Connection, since: Since) -> None:
    itself(connection)
    itself(connection)
    assert counted(since, "test.itself") == 2


def test_a_statement_of_the_orm_is_counted_under_its_name(engine: Engine, since: Since) -> None:
    with Session(engine) as session:
        session.scalars(select(User).prefix_with("/* test.users */").limit(1)).all()
    assert counted(since, "test.users") == 1


def test_a_statement_without_a_name_is_counted_as_other(connection: Connection, since: Since) -> None:
    connection.execute(text("SELECT 1"))
    connection.execute(text("SELECT '" + "x" * 100 + "/* not.a_name */'"))
    assert counted(since, "other") == 2
    assert counted(since, "not.a_name") == 0


def test_a_failed_statement_is_an_error(connection: Connection, since: Since) -> None:
    with pytest.raises(DBAPIError):
        connection.execute(text("SELECT /* test.broken */ 1 / 0"))
    assert counted(since, "test.broken", "error") == 1
    assert counted(since, "test.broken", "ok") == 0


def test_a_statement_that_takes_too_long_is_a_timeout(hasty: Engine, since: Since) -> None:
    with pytest.raises(DBAPIError), hasty.connect() as connection:
        connection.execute(text("SELECT /* test.slow */ pg_sleep(30)"))
    assert counted(since, "test.slow", "timeout") == 1
    assert since.counted("db_query_duration_seconds_sum", statement="test.slow") >= 0.3


def test_a_wait_for_a_lock_that_takes_too_long_is_a_timeout(
    hasty: Engine, connection: Connection, since: Since
) -> None:
    connection.execute(text("LOCK TABLE turns IN ACCESS EXCLUSIVE MODE"))
    with pytest.raises(DBAPIError), hasty.connect() as second:
        second.execute(text("SELECT /* test.locked */ count(*) FROM turns"))
    connection.rollback()
    assert counted(since, "test.locked", "timeout") == 1


def test_many_rows_at_once_are_one_statement(connection: Connection, since: Since) -> None:
    connection.execute(text("CREATE TEMPORARY TABLE heap (n integer)"))
    connection.execute(text("INSERT /* test.many */ INTO heap VALUES (:n)"), [{"n": n} for n in range(5)])
    assert counted(since, "test.many") == 1
    connection.rollback()


def test_a_statement_carries_the_id_of_its_request(connection: Connection, told: Any) -> None:
    told("abc.DEF-1_2")
    assert itself(connection).startswith("SELECT /* test.itself rid=abc.DEF-1_2 */ current_query()")
    told("another")
    assert itself(connection).startswith("SELECT /* test.itself rid=another */ current_query()")


def test_a_statement_of_no_request_carries_its_name_alone(connection: Connection, told: Any) -> None:
    told("")
    assert itself(connection).startswith("SELECT /* test.itself */ current_query()")


@pytest.mark.parametrize(
    "hostile", ["*/ DROP TABLE users; --", "a*/b", "%s", "%(yes)s", "a b", "a\n", "é", "x" * 65, "--", "/*"]
)
def test_an_id_that_is_not_plain_never_reaches_the_server(connection: Connection, told: Any, hostile: str) -> None:
    told(hostile)
    seen = itself(connection)
    if hostile == "--":  # plain enough inside a comment
        assert seen.startswith("SELECT /* test.itself rid=-- */ current_query()")
    else:
        assert seen.startswith("SELECT /* test.itself */ current_query()")


def test_a_statement_without_a_name_carries_the_id_too(connection: Connection, told: Any) -> None:
    told("abc")
    assert connection.execute(text("SELECT current_query()")).scalar_one() == "SELECT current_query() /* rid=abc */"


def test_the_id_of_a_call_reaches_the_server(client: FlaskClient, user: Account, settings: Settings) -> None:
    client.get("/api/conversations", headers={**user.headers, "X-Request-ID": "find-me-in-the-log"})
    observer = create_engine(settings.database.url or "")
    with observer.connect() as connection:
        seen = connection.execute(
            text("SELECT query FROM pg_stat_activity WHERE datname = current_database()")
        ).scalars()
        assert [query for query in seen if "/* conversations.page rid=find-me-in-the-log */" in query]
    observer.dispose()


def test_ever_new_texts_do_not_fill_the_memory(
    connection: Connection, since: Since, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "_TEXTS", len(tracing._texts))
    for number in range(5):
        connection.exec_driver_sql(f"SELECT /* test.new */ {number}")
    assert not [known for known in tracing._texts if "test.new" in known]
    assert counted(since, "test.new") == 5


def test_names_are_those_of_the_code(client: FlaskClient, user: Account) -> None:
    client.get("/api/conversations", headers=user.headers)
    assert {"conversations.page"} <= here().labels("db_query_duration_seconds_count", "statement")
