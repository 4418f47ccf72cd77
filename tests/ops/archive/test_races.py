"""Concurrent actions on a conversation while it is being bundled."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, text

from app.ids import new_id
from app.services.search_index import index_conversation
from ops.archive.throttle import Throttle
from ops.archive.verify import verify
from tests.api.rows import join_all, start_all
from tests.bundling import archive_all, make_idle, numbered_messages, storage_state, stored_messages, unthrottled
from tests.factories import LoggedInUser
from tests.ops.archive.conftest import Execute
from tests.waiting import wait_until

SENT, CLIENTS, CONVERSATIONS = 12, 4, 4


@pytest.fixture
def send_message(flask_app: Flask, user: LoggedInUser) -> Callable[[UUID, str], Any]:
    """Return a function that sends a message as `user` and returns the response."""

    def send(conversation: UUID, message: str) -> Any:
        body = {"message": message, "conversation_id": str(conversation)}
        return flask_app.test_client().post("/api/chat", json=body, headers=user.headers)

    return send


@pytest.fixture
def blocked_run(flask_app: Flask, engine: Engine) -> Callable[..., Any]:
    """Return a context manager that blocks a run in its transaction: after the deletion, before the cursor moves."""

    @contextmanager
    def held() -> Iterator[Callable[[int], None]]:
        with engine.connect() as holder, engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
            pid = holder.execute(text("SELECT pg_backend_pid()")).scalar_one()

            def hold(connection: Connection) -> Throttle:
                holder.execute(text("SELECT FROM archive_runs FOR UPDATE"))
                return unthrottled(connection)

            def wait(waiting: int) -> None:
                """Wait until that many statements wait for the holder, directly or indirectly."""
                blocked = text(
                    "WITH RECURSIVE blocked AS ("
                    " SELECT pid FROM pg_stat_activity WHERE :pid = ANY (pg_blocking_pids(pid))"
                    " UNION SELECT a.pid FROM pg_stat_activity a, blocked b"
                    " WHERE b.pid = ANY (pg_blocking_pids(a.pid))) SELECT count(*) FROM blocked"
                )
                wait_until(
                    lambda: watcher.execute(blocked, {"pid": pid}).scalar_one() >= waiting,
                    f"fewer than {waiting} statements wait",
                )

            threads, results = start_all(lambda: archive_all(flask_app, make_throttle=hold))
            wait(1)
            yield wait
            holder.rollback()
            join_all(threads)
            assert results[0].state == "completed"

    return held


def test_message_during_bundling_is_neither_lost_nor_refused(
    engine: Engine, user: LoggedInUser, send_message: Callable[..., Any], blocked_run: Callable[..., Any]
) -> None:
    conversation = make_idle(engine, user, numbered_messages(40))
    before = stored_messages(engine, conversation)
    with blocked_run() as wait:
        threads, answers = start_all(*[lambda: send_message(conversation, "late")] * 3)
        wait(4)
    join_all(threads)
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses.count(200) >= 1
    assert set(statuses) <= {200, 409}
    assert storage_state(engine, conversation) == ("active", "live", 40 + 2 * statuses.count(200), 0)
    assert stored_messages(engine, conversation).startswith(before)


def test_reader_during_bundling_gets_all_messages(
    flask_app: Flask, engine: Engine, user: LoggedInUser, blocked_run: Callable[..., Any]
) -> None:
    conversation = make_idle(engine, user, numbered_messages(40))
    with blocked_run():
        answer = flask_app.test_client().get(
            f"/api/conversations/{conversation}/messages", query_string={"limit": 100}, headers=user.headers
        )
        assert len(answer.json["items"]) == 40  # type: ignore[index]
    assert storage_state(engine, conversation)[1] == "bundled"


@pytest.mark.parametrize("method", ["unarchive", "archive", "delete"])
def test_action_of_the_owner_during_bundling_takes_effect(
    flask_app: Flask, engine: Engine, user: LoggedInUser, blocked_run: Callable[..., Any], method: str
) -> None:
    conversation = make_idle(engine, user, numbered_messages(40))
    client, url = flask_app.test_client(), f"/api/conversations/{conversation}"
    acts = {
        "unarchive": lambda: client.post(f"{url}/unarchive", headers=user.headers),
        "archive": lambda: client.post(f"{url}/archive", headers=user.headers),
        "delete": lambda: client.delete(url, headers=user.headers),
    }
    with blocked_run() as wait:
        threads, answers = start_all(acts[method])
        wait(2)
    join_all(threads)
    if method == "delete":
        assert answers[0].status_code == 204
        with engine.connect() as connection:
            assert connection.execute(text("SELECT FROM conversation_archives")).all() == []
    else:
        assert answers[0].status_code == 200
        expected = ("active", "live", 40, 0) if method == "unarchive" else ("archived", "bundled", 0, 1)
        assert storage_state(engine, conversation) == expected


def test_conversation_in_use_is_skipped(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    """A beginning turn, whose statement has not committed yet."""
    conversation = make_idle(engine, user, numbered_messages(3))
    with engine.connect() as turn:
        turn.execute(
            text("UPDATE conversations SET running_attempt = :a, updated_at = now() WHERE id = :c"),
            {"a": new_id(), "c": conversation},
        )
        done = archive_all(flask_app)
        assert (done.conversations, done.skipped) == (0, 1)
        turn.commit()
    assert archive_all(flask_app).conversations == 0
    assert storage_state(engine, conversation) == ("active", "live", 3, 0)


CHANGES = {
    "a message": "say",
    "a title": "UPDATE conversations SET title = 'new' WHERE id = :c",
    "a hold": "UPDATE conversations SET legal_hold = true WHERE id = :c",
    "an unarchiving": "UPDATE conversations SET revived_at = now() WHERE id = :c",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_change_after_selection_is_respected(
    flask_app: Flask,
    engine: Engine,
    user: LoggedInUser,
    execute: Execute,
    send_message: Callable[..., Any],
    change: str,
) -> None:
    """The change is between the selection and the lock; the locking statement checks the row again."""
    conversation = make_idle(engine, user, numbered_messages(3))
    with flask_app.app_context():
        index_conversation(user.id, conversation)  # so that no other statement runs before the lock

    class ChangingThrottle(Throttle):
        @property
        def messages(self) -> int:
            """Batch size, read after the selection of the conversations."""
            if change == "say":
                assert send_message(conversation, "hello").status_code == 200
            else:
                execute(change, c=conversation)
            return 500

        @messages.setter
        def messages(self, value: int) -> None:
            pass

        def pause(self, batch_seconds: float, messages: int | None = None) -> float:
            return 0.0

    done = archive_all(
        flask_app,
        make_throttle=lambda connection: ChangingThrottle(connection, home=Path("/nowhere"), slow_ms=1, pace=10**9),
    )
    assert (done.conversations, done.skipped, done.rejected) == (0, 1, 0)
    assert storage_state(engine, conversation) == ("active", "live", 5 if change == "say" else 3, 0)


def test_chats_and_readers_are_not_disturbed_by_permanent_bundling(
    flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute, send_message: Callable[..., Any]
) -> None:
    """Clients, readers and runs work on the same conversations, which become idle at once."""
    conversations = [make_idle(engine, user, numbered_messages(2)) for _ in range(CONVERSATIONS)]
    acknowledged: dict[UUID, list[str]] = {conversation: [] for conversation in conversations}
    over, wrong = threading.Event(), list[str]()

    def chatter(number: int) -> None:
        dice = random.Random(number)
        for count in range(SENT):
            threading.Event().wait(dice.uniform(0, 0.2))  # so that conversations are idle at times
            conversation, message = dice.choice(conversations), f"{number}-{count}"
            for _ in range(500):
                answer = send_message(conversation, message)
                if answer.status_code == 200:
                    acknowledged[conversation].append(message)
                    break
                if (answer.status_code, answer.json["code"]) != (409, "conversation_busy"):
                    wrong.append(f"{answer.status_code} {answer.json}")
                    return
                threading.Event().wait(0.01)
            else:
                wrong.append("busy for ever")

    def reader() -> None:
        client, dice = flask_app.test_client(), random.Random(7)
        while not over.is_set():
            conversation = dice.choice(conversations)
            known = list(acknowledged[conversation])
            url = f"/api/conversations/{conversation}/messages"
            answer = client.get(url, query_string={"limit": 100}, headers=user.headers)
            items = answer.json["items"] if answer.status_code == 200 else []  # type: ignore[index]
            if [item["position"] for item in items] != list(range(1, len(items) + 1)):
                wrong.append(f"positions of {answer.status_code}: {[item['position'] for item in items]}")
            if missing := set(known) - {item["content"] for item in items}:
                wrong.append(f"not to be read: {missing}")

    def archiver() -> None:
        while not over.is_set():
            execute(
                "UPDATE conversations SET created_at = '2020-01-01', updated_at = '2020-01-01', revived_at = NULL"
                " WHERE running_attempt IS NULL"
            )
            archive_all(flask_app)

    background, _ = start_all(reader, archiver)
    threads, _ = start_all(*[lambda number=number: chatter(number) for number in range(CLIENTS)])
    for thread in threads:
        thread.join(100)
    over.set()
    join_all(background)
    assert wrong == []
    assert sum(map(len, acknowledged.values())) == CLIENTS * SENT
    [(runs, restored)] = execute("SELECT count(*), sum(restored) FROM archive_runs WHERE conversations > 0")
    assert runs > 0
    assert restored > 0
    with flask_app.app_context():
        assert verify().damaged == 0
    client = flask_app.test_client()
    for conversation, messages in acknowledged.items():
        client.post(f"/api/conversations/{conversation}/unarchive", headers=user.headers)
        rows = execute(
            "SELECT position, role, content FROM messages WHERE conversation_id = :c ORDER BY position", c=conversation
        )
        assert [row.position for row in rows] == list(range(1, len(rows) + 1))
        assert sorted(row.content for row in rows[2:] if row.role == "user") == sorted(messages)
        assert len(rows) == 2 + 2 * len(messages)
