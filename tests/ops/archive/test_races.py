"""What happens to a conversation at the very moment it is archived: real connections that wait for one another."""

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

from app.models.columns import new_id
from app.services.search import index_conversation
from ops.archive.load import Load
from ops.archive.verify import verify
from tests.api.rows import at_once, ended
from tests.archived import archive_all, calm, make_idle, place, plain, stored
from tests.factories import Account
from tests.ops.archive.conftest import Execute

SENT, CHATTERS, CONVERSATIONS = 12, 4, 4


@pytest.fixture
def say(flask_app: Flask, user: Account) -> Callable[[UUID, str], Any]:
    """Send a message as `user`, and wait for its answer."""

    def send(conversation: UUID, message: str) -> Any:
        body = {"message": message, "conversation_id": str(conversation)}
        return flask_app.test_client().post("/api/chat", json=body, headers=user.headers)

    return send


@pytest.fixture
def stopped(flask_app: Flask, engine: Engine) -> Callable[..., Any]:
    """Archive in a thread, stopped within its transaction: it has copied and deleted, and waits to move its cursor."""

    @contextmanager
    def held() -> Iterator[Callable[[int], None]]:
        with engine.connect() as holder, engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
            pid = holder.execute(text("SELECT pg_backend_pid()")).scalar_one()

            def hold(connection: Connection) -> Load:
                holder.execute(text("SELECT FROM archive_runs FOR UPDATE"))
                return calm(connection)

            def wait(waiting: int) -> None:
                """Until so many statements wait, for the holder or for one that waits for it."""
                for _ in range(2_000):
                    found = watcher.execute(
                        text(
                            "WITH RECURSIVE blocked AS ("
                            " SELECT pid FROM pg_stat_activity WHERE :pid = ANY (pg_blocking_pids(pid))"
                            " UNION SELECT a.pid FROM pg_stat_activity a, blocked b"
                            " WHERE b.pid = ANY (pg_blocking_pids(a.pid))) SELECT count(*) FROM blocked"
                        ),
                        {"pid": pid},
                    ).scalar_one()
                    if found >= waiting:
                        return
                    threading.Event().wait(0.01)
                raise AssertionError(f"{found} of {waiting} wait")

            threads, results = at_once(lambda: archive_all(flask_app, make_load=hold))
            wait(1)
            yield wait
            holder.rollback()
            ended(threads)
            assert results[0].state == "completed"

    return held


def test_a_message_that_comes_while_it_is_being_archived_is_neither_lost_nor_refused(
    engine: Engine, user: Account, say: Callable[..., Any], stopped: Callable[..., Any]
) -> None:
    conversation = make_idle(engine, user, plain(40))
    before = stored(engine, conversation)
    with stopped() as wait:
        threads, answers = at_once(*[lambda: say(conversation, "late")] * 3)
        wait(4)
    ended(threads)
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses.count(200) >= 1
    assert set(statuses) <= {200, 409}
    assert place(engine, conversation) == ("active", "live", 40 + 2 * statuses.count(200), 0)
    assert stored(engine, conversation).startswith(before)


def test_whoever_reads_it_meanwhile_reads_all_of_it(
    flask_app: Flask, engine: Engine, user: Account, stopped: Callable[..., Any]
) -> None:
    conversation = make_idle(engine, user, plain(40))
    with stopped():
        answer = flask_app.test_client().get(
            f"/api/conversations/{conversation}/messages", query_string={"limit": 100}, headers=user.headers
        )
        assert len(answer.json["items"]) == 40  # type: ignore[index]
    assert place(engine, conversation)[1] == "bundled"


@pytest.mark.parametrize("method", ["unarchive", "archive", "delete"])
def test_whatever_else_its_owner_does_meanwhile_is_done(
    flask_app: Flask, engine: Engine, user: Account, stopped: Callable[..., Any], method: str
) -> None:
    conversation = make_idle(engine, user, plain(40))
    client, url = flask_app.test_client(), f"/api/conversations/{conversation}"
    acts = {
        "unarchive": lambda: client.post(f"{url}/unarchive", headers=user.headers),
        "archive": lambda: client.post(f"{url}/archive", headers=user.headers),
        "delete": lambda: client.delete(url, headers=user.headers),
    }
    with stopped() as wait:
        threads, answers = at_once(acts[method])
        wait(2)
    ended(threads)
    if method == "delete":
        assert answers[0].status_code == 204
        with engine.connect() as connection:
            assert connection.execute(text("SELECT FROM conversation_archives")).all() == []
    else:
        assert answers[0].status_code == 200
        expected = ("active", "live", 40, 0) if method == "unarchive" else ("archived", "bundled", 0, 1)
        assert place(engine, conversation) == expected


def test_what_is_in_use_is_passed_over(flask_app: Flask, engine: Engine, user: Account) -> None:
    """A turn that is just beginning: its statement has not committed yet."""
    conversation = make_idle(engine, user, plain(3))
    with engine.connect() as turn:
        turn.execute(
            text("UPDATE conversations SET running_attempt = :a, updated_at = now() WHERE id = :c"),
            {"a": new_id(), "c": conversation},
        )
        done = archive_all(flask_app)
        assert (done.conversations, done.passed_over) == (0, 1)
        turn.commit()
    assert archive_all(flask_app).conversations == 0
    assert place(engine, conversation) == ("active", "live", 3, 0)


CHANGES = {
    "a message": "say",
    "a title": "UPDATE conversations SET title = 'new' WHERE id = :c",
    "a hold": "UPDATE conversations SET legal_hold = true WHERE id = :c",
    "an unarchiving": "UPDATE conversations SET revived_at = now() WHERE id = :c",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_after_it_was_chosen_is_looked_at_again(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute, say: Callable[..., Any], change: str
) -> None:
    """Between the page that names it and the lock: the statement that locks judges the row as it is then."""
    conversation = make_idle(engine, user, plain(3))
    with flask_app.app_context():
        index_conversation(user.id, conversation)  # so that nothing but the lock stands between

    class Meddling(Load):
        @property
        def messages(self) -> int:
            """Asked for when the page has been read."""
            if change == "say":
                assert say(conversation, "hello").status_code == 200
            else:
                execute(change, c=conversation)
            return 500

        @messages.setter
        def messages(self, value: int) -> None:
            pass

        def rest(self, took: float) -> float:
            return 0.0

    done = archive_all(
        flask_app, make_load=lambda connection: Meddling(connection, home=Path("/nowhere"), slow_ms=1, pace=10**9)
    )
    assert (done.conversations, done.passed_over, done.unfit) == (0, 1, 0)
    assert place(engine, conversation) == ("active", "live", 5 if change == "say" else 3, 0)


def test_chats_and_readers_notice_nothing_of_an_archival_that_never_ends(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute, say: Callable[..., Any]
) -> None:
    """Everybody at once on the same few conversations, which grow old in no time."""
    conversations = [make_idle(engine, user, plain(2)) for _ in range(CONVERSATIONS)]
    acknowledged: dict[UUID, list[str]] = {each: [] for each in conversations}
    over, wrong = threading.Event(), list[str]()

    def chatter(number: int) -> None:
        dice = random.Random(number)
        for count in range(SENT):
            conversation, message = dice.choice(conversations), f"{number}-{count}"
            for _ in range(500):
                answer = say(conversation, message)
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

    background, _ = at_once(reader, archiver)
    threads, _ = at_once(*[lambda number=number: chatter(number) for number in range(CHATTERS)])
    for thread in threads:
        thread.join(100)
    over.set()
    ended(background)
    assert wrong == []
    assert sum(map(len, acknowledged.values())) == CHATTERS * SENT
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
