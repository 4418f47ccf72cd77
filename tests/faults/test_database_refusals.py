"""PostgreSQL is there and refuses: a deadlock, a full disk. What it refused was not saved, and nobody says it was."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.factories import Account
from tests.faults.rig import until

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


def assert_not_now(response: TestResponse) -> None:
    assert response.status_code == 503, response.json
    assert response.json["code"] == "database_unavailable"
    assert int(response.headers["Retry-After"]) >= 1


def test_the_victim_of_a_deadlock_may_try_again(
    chat: Chat, chat_app: Flask, user: Account, engine: Engine, rows: Rows
) -> None:
    """Deleting locks the conversation, then its turn; somebody by hand locks them the other way round."""
    chat_turn = chat("hello").json["turn"]
    path = f"/api/conversations/{chat_turn['conversation_id']}"

    def delete() -> TestResponse:
        return chat_app.test_client().delete(path, headers=user.headers)

    with ThreadPoolExecutor(1) as threads, engine.connect() as other, other.begin():
        other.execute(text("SET LOCAL deadlock_timeout = '1min'"))  # so that it is the application that notices
        other.execute(text("SET LOCAL lock_timeout = '30s'"))
        other.execute(text("SELECT FROM turns WHERE id = :id FOR UPDATE"), {"id": chat_turn["id"]})
        deleting = threads.submit(delete)
        waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%conversations.remove%'"
        until(lambda: rows(waiting), "a deletion that waits")
        query = text("SELECT FROM conversations WHERE id = :id FOR UPDATE")
        other.execute(query, {"id": chat_turn["conversation_id"]})  # waits for the deletion, which waits for us
        assert_not_now(deleting.result())
    assert len(rows("SELECT FROM messages WHERE user_id = :u", u=user.id)) == 2
    assert delete().status_code == 204


@pytest.fixture
def full_disk(engine: Engine) -> Callable[[str], Any]:
    """A block in which PostgreSQL cannot store messages of a role, as when it finds no space left on its device; or
    meets another `error`, by its name in PL/pgSQL.

    It is PostgreSQL's own error, though raised by a trigger: nobody fills a disk here. `refused()` of the block's value
    says how often it was.
    """

    @contextmanager
    def block(role: str, error: str = "disk_full") -> Iterator[Callable[[], int]]:
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

    return block


@pytest.mark.parametrize("error", ["disk_full", "io_error", "out_of_memory"])
def test_a_message_that_finds_no_space_is_not_acknowledged(
    chat: Chat, full_disk: Callable[..., Any], user: Account, rows: Rows, error: str
) -> None:
    key = {"Idempotency-Key": "no space"}
    with full_disk("user", error):
        assert_not_now(chat("hello", headers=key))
        for table in ("conversations", "turns", "messages"):
            assert rows(f"SELECT FROM {table} WHERE user_id = :u", u=user.id) == []
    assert chat("hello", headers=key).status_code == 200


def test_an_answer_that_finds_no_space_is_kept_until_there_is_some(
    chat: Chat, full_disk: Callable[[str], Any], user: Account, rows: Rows
) -> None:
    with ThreadPoolExecutor(1) as threads:
        with full_disk("assistant") as refused:
            pending = threads.submit(chat, "hello")
            until(lambda: refused() >= 1, "an answer that is refused")
            assert not pending.done()
        answer = pending.result()
    assert answer.status_code == 200
    stored = rows("SELECT position, content FROM messages WHERE user_id = :u ORDER BY 1", u=user.id)
    assert [tuple(row) for row in stored] == [(1, "hello"), (2, answer.json["message"]["content"])]
