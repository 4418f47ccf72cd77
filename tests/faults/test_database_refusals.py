"""Statements that PostgreSQL refuses, for a deadlock or a full disk: nothing is saved or acknowledged."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.event_source import TurnReader, parse
from tests.factories import LoggedInUser
from tests.waiting import wait_until

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


def assert_unavailable(response: TestResponse) -> None:
    assert response.status_code == 503, response.json
    assert response.json["code"] == "database_unavailable"
    assert int(response.headers["Retry-After"]) >= 1


def test_deadlock_returns_503_and_the_retry_succeeds(
    chat: Chat, chat_app: Flask, user: LoggedInUser, engine: Engine, rows: Rows
) -> None:
    """A deletion locks the conversation, then its turn; another transaction locks them in the opposite order."""
    chat_turn = chat("hello").json["turn"]
    path = f"/api/conversations/{chat_turn['conversation_id']}"

    def delete() -> TestResponse:
        return chat_app.test_client().delete(path, headers=user.headers)

    with ThreadPoolExecutor(1) as threads, engine.connect() as other, other.begin():
        other.execute(text("SET LOCAL deadlock_timeout = '1min'"))  # so that the application's transaction detects it
        other.execute(text("SET LOCAL lock_timeout = '30s'"))
        other.execute(text("SELECT FROM turns WHERE id = :id FOR UPDATE"), {"id": chat_turn["id"]})
        deleting = threads.submit(delete)
        waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%conversations.remove%'"
        wait_until(lambda: rows(waiting), "no deletion is waiting")
        query = text("SELECT FROM conversations WHERE id = :id FOR UPDATE")
        other.execute(query, {"id": chat_turn["conversation_id"]})  # waits for the deletion: a deadlock
        assert_unavailable(deleting.result())
    assert len(rows("SELECT FROM messages WHERE user_id = :u", u=user.id)) == 2
    assert delete().status_code == 204


@pytest.fixture
def full_disk(engine: Engine) -> Callable[[str], Any]:
    """Return a context manager in which PostgreSQL cannot store messages of a role.

    A trigger raises disk_full or another `error`, by its name in PL/pgSQL. The context's value is a function that
    returns the number of refusals.
    """

    @contextmanager
    def refuse_messages(role: str, error: str = "disk_full") -> Iterator[Callable[[], int]]:
        with engine.begin() as connection:
            connection.execute(text("CREATE SEQUENCE refused MINVALUE 0"))
            connection.execute(
                text(f"""
                CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    PERFORM nextval('refused');
                    RAISE 'could not extend file: No space left on device' USING ERRCODE = '{error}';
                END $$""")
            )
            connection.execute(
                text(f"""
                CREATE TRIGGER no_space BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.role = '{role}')
                EXECUTE FUNCTION no_space()""")
            )

        def refused() -> int:
            with engine.connect() as connection:
                return int(connection.execute(text("SELECT last_value FROM refused")).scalar_one())

        try:
            yield refused
        finally:
            with engine.begin() as connection:
                connection.execute(text("DROP TRIGGER no_space ON messages"))
                connection.execute(text("DROP FUNCTION no_space"))
                connection.execute(text("DROP SEQUENCE refused"))

    return refuse_messages


@pytest.mark.parametrize("error", ["disk_full", "io_error", "out_of_memory"])
def test_message_on_a_full_disk_returns_503_and_is_not_stored(
    chat: Chat, full_disk: Callable[..., Any], user: LoggedInUser, rows: Rows, error: str
) -> None:
    key = {"Idempotency-Key": "no space"}
    with full_disk("user", error):
        assert_unavailable(chat("hello", headers=key))
        for table in ("conversations", "turns", "messages"):
            assert rows(f"SELECT FROM {table} WHERE user_id = :u", u=user.id) == []
    assert chat("hello", headers=key).status_code == 200


def test_answer_on_a_full_disk_is_stored_once_there_is_space(
    chat: Chat, full_disk: Callable[[str], Any], user: LoggedInUser, rows: Rows
) -> None:
    with ThreadPoolExecutor(1) as threads:
        with full_disk("assistant") as refused:
            pending = threads.submit(chat, "hello")
            wait_until(lambda: refused() >= 1, "no answer was refused")
            assert not pending.done()
        answer = pending.result()
    assert answer.status_code == 200
    stored = rows("SELECT position, content FROM messages WHERE user_id = :u ORDER BY 1", u=user.id)
    assert [tuple(row) for row in stored] == [(1, "hello"), (2, answer.json["message"]["content"])]


def test_reader_of_rejected_answer_discards_its_text(
    chat: Chat, chat_app: Flask, full_disk: Callable[..., Any], user: LoggedInUser
) -> None:
    """A retry cannot succeed, so the turn fails and nothing of its answer is stored."""
    with full_disk("assistant", "check_violation"):
        reader = TurnReader().read(parse(chat("hello", stream=True).response), 4)
        wait_until(lambda: chat_app.extensions["parley"].turns.running == 0, "the turn still runs")
    assert reader.text != ""
    headers = {**user.headers, "Last-Event-ID": str(reader.last_id)}
    response = chat_app.test_client().get(f"/api/turns/{reader.turn['id']}/events", headers=headers)
    reader.read(parse(response.get_data()))
    assert (reader.text, reader.end) == ("", "turn.failed")
