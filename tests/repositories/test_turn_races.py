"""The fence, on concurrent connections: positions stay contiguous and each attempt writes once, in any order."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from app.config import Settings
from app.enums import TurnStatus
from app.errors import ConversationBusy, NotFound, ParleyError, TurnFenced
from app.providers.base import Completed
from app.repositories.turn_diagnosis import RELEASE_LEASE
from app.turns.answer import Answer
from app.turns.attempt import Attempt
from app.turns.finish import finish
from app.turns.retry import ExistingTurn
from app.turns.stale import close_stale
from tests.factories import LoggedInUser, make_conversation
from tests.repositories.conftest import StartTurn, make_stale
from tests.waiting import wait_until

DONE = Answer("an answer", Completed("stop", "demo"))


def violations(engine: Engine, user_id: UUID) -> list[Any]:
    """Return the user's conversations whose positions, counts and messages are inconsistent."""
    with engine.connect() as connection:
        return list(
            connection.execute(
                text("""
                SELECT c.id, c.message_count, c.next_position, count(m.*), min(m.position), max(m.position)
                  FROM conversations c LEFT JOIN messages m ON m.user_id = c.user_id AND m.conversation_id = c.id
                 WHERE c.user_id = :u GROUP BY c.user_id, c.id
                HAVING c.message_count <> count(m.*) OR c.next_position <> count(m.*) + 1
                    OR count(m.*) > 0 AND (min(m.position) <> 1 OR max(m.position) <> count(m.*))"""),
                {"u": user_id},
            )
        )


def test_mixed_begins_ends_and_takeovers_leave_no_gap(
    connections: Engine, start: StartTurn, user: LoggedInUser
) -> None:
    conversations = [make_conversation(connections, user) for _ in range(2)]
    counts = {"begun": 0, "busy": 0, "finished": 0, "fenced": 0}
    lock = threading.Lock()

    def count(outcome: str) -> None:
        with lock:
            counts[outcome] += 1

    def worker(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            try:
                begun = start(user, conversation_id=rng.choice(conversations))
            except ConversationBusy:
                count("busy")
                continue
            assert isinstance(begun, Attempt)
            count("begun")
            if rng.random() < 0.25:  # this worker stops: the next begin takes over, and a late finish is fenced
                make_stale(connections, begun.turn)
                if rng.random() < 0.5:
                    continue
            status = rng.choice([TurnStatus.COMPLETED, TurnStatus.CANCELLED, TurnStatus.FAILED])
            try:
                finish(connections, begun.turn, status, DONE)
                count("finished")
            except TurnFenced:
                count("fenced")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(worker, range(8)))

    assert not violations(connections, user.id)
    assert counts["finished"] > 20
    assert counts["busy"] > 0
    with connections.connect() as connection:
        turns, answers, consistent = connection.execute(
            text("""
            SELECT count(*), count(answer_position),
                   count(*) FILTER (WHERE EXISTS (SELECT FROM messages m WHERE m.user_id = t.user_id
                     AND m.conversation_id = t.conversation_id AND m.position = t.position AND m.turn_id = t.id))
              FROM turns t WHERE user_id = :u"""),
            {"u": user.id},
        ).one()
    assert turns == consistent == counts["begun"]
    assert answers == counts["finished"]


def test_concurrent_begins_with_one_key_create_one_conversation(
    connections: Engine, start: StartTurn, user: LoggedInUser
) -> None:
    barrier = threading.Barrier(40)

    def try_begin(_: int) -> Attempt | ExistingTurn:
        barrier.wait()
        return start(user, idempotency_key="the same")

    with ThreadPoolExecutor(40) as pool:
        results = list(pool.map(try_begin, range(40)))

    begun = [result for result in results if isinstance(result, Attempt)]
    assert len(begun) == 1
    assert {result.turn_id for result in results if isinstance(result, ExistingTurn)} == {begun[0].turn.id}
    with connections.connect() as connection:
        counts = connection.execute(
            text(
                "SELECT (SELECT count(*) FROM conversations WHERE user_id = :u), count(*) FROM turns WHERE user_id = :u"
            ),
            {"u": user.id},
        ).one()
    assert tuple(counts) == (1, 1)
    assert not violations(connections, user.id)


def test_begin_after_lock_wait_reads_committed_answer(
    connections: Engine, settings: Settings, start: StartTurn, user: LoggedInUser
) -> None:
    conversation = make_conversation(connections, user)
    with connections.connect() as holder, ThreadPoolExecutor(1) as pool:
        holder.exec_driver_sql("BEGIN")  # explicit, because this connection is in AUTOCOMMIT
        holder.execute(
            text("""
            WITH c AS (UPDATE conversations SET next_position = next_position + 2, message_count = message_count + 2
                        WHERE user_id = :u AND id = :c RETURNING user_id, id)
            INSERT INTO messages (user_id, conversation_id, position, role, content)
            SELECT user_id, id, position, role, content
              FROM c, (VALUES (1, 'user', 'hello'), (2, 'assistant', 'just in time'))
                      AS message(position, role, content)"""),
            {"u": user.id, "c": conversation},
        )
        pending = pool.submit(start, user, conversation_id=conversation, message="and then?")
        _wait_for_lock(connections, user.id)
        holder.exec_driver_sql("COMMIT")
        second = pending.result(timeout=20)
    assert isinstance(second, Attempt)
    assert second.turn.position == 3
    assert [message.content for message in second.context] == ["hello", "just in time", "and then?"]


def _wait_for_lock(engine: Engine, user_id: UUID) -> None:
    """Wait until a begin of the user waits for the row lock."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE :begin")

    def count() -> int:
        with engine.connect() as connection:
            return int(connection.execute(waiting, {"begin": f"WITH /* turns.begin */%{user_id}%"}).scalar_one())

    wait_until(count, "the second begin did not wait for the lock of the row")


def test_concurrent_begins_in_one_conversation_start_one_turn(
    connections: Engine, start: StartTurn, user: LoggedInUser
) -> None:
    conversation = make_conversation(connections, user)
    barrier = threading.Barrier(20)

    def try_begin(_: int) -> object:
        barrier.wait()
        try:
            return start(user, conversation_id=conversation)
        except ConversationBusy as busy:
            return busy

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(try_begin, range(20)))
    assert sum(isinstance(result, Attempt) for result in results) == 1
    assert all(result.retry_after for result in results if isinstance(result, ConversationBusy))
    assert not violations(connections, user.id)


def test_next_begin_closes_stale_attempt_and_fences_its_answer(
    connections: Engine, start: StartTurn, user: LoggedInUser
) -> None:
    stale = start(user)
    assert isinstance(stale, Attempt)
    make_stale(connections, stale.turn)
    taken = start(user, conversation_id=stale.turn.conversation_id)
    assert isinstance(taken, Attempt)
    with pytest.raises(TurnFenced):
        finish(connections, stale.turn, TurnStatus.COMPLETED, DONE)
    finish(connections, taken.turn, TurnStatus.COMPLETED, DONE)
    with connections.connect() as connection:
        turns = connection.execute(text("SELECT id, status FROM turns WHERE user_id = :u"), {"u": user.id})
        states = {row.id: row.status for row in turns}
    assert states == {stale.turn.id: "interrupted", taken.turn.id: "completed"}
    assert not violations(connections, user.id)


def test_attempt_with_recent_heartbeat_is_not_closed(start: StartTurn, user: LoggedInUser) -> None:
    begun = start(user)
    assert isinstance(begun, Attempt)
    with pytest.raises(ConversationBusy):
        start(user, conversation_id=begun.turn.conversation_id)


def test_outdated_close_does_not_end_new_attempt(connections: Engine, start: StartTurn, user: LoggedInUser) -> None:
    """Two callers read the same stale attempt; the slower one must not end the attempt of the faster one."""
    stale = start(user)
    assert isinstance(stale, Attempt)
    key = {"user_id": user.id, "conversation_id": stale.turn.conversation_id}
    old = {**key, "turn_id": stale.turn.id, "attempt": stale.turn.attempt}
    make_stale(connections, stale.turn)
    taken = start(user, conversation_id=stale.turn.conversation_id)
    assert isinstance(taken, Attempt)
    with connections.connect() as connection:
        assert not close_stale(connection, **old, stale_seconds=0)
        assert RELEASE_LEASE.one(connection, old) is None
        new = {**key, "turn_id": taken.turn.id, "attempt": taken.turn.attempt}
        assert not close_stale(connection, **new, stale_seconds=60), "its heartbeat is recent"
        assert RELEASE_LEASE.one(connection, new) is None, "it has a running turn"
    finish(connections, taken.turn, TurnStatus.COMPLETED, DONE)


def test_concurrent_finishes_store_one_answer(connections: Engine, start: StartTurn, user: LoggedInUser) -> None:
    begun = start(user)
    assert isinstance(begun, Attempt)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(finish, connections, begun.turn, TurnStatus.COMPLETED, DONE) for _ in range(8)]
    fenced = [future.exception() for future in futures if future.exception() is not None]
    assert len(fenced) == 7
    assert all(isinstance(error, TurnFenced) for error in fenced)
    assert not violations(connections, user.id)


@pytest.mark.parametrize("owner", ["missing", "other user"])
def test_begin_in_unknown_conversation_stores_nothing(
    connections: Engine, start: StartTurn, user: LoggedInUser, other_user: LoggedInUser, owner: str
) -> None:
    target = user.id if owner == "missing" else make_conversation(connections, other_user)
    with pytest.raises(NotFound):
        start(user, conversation_id=target)
    with connections.connect() as connection:
        for table in ("conversations", "messages", "turns"):
            count = connection.execute(text(f"SELECT count(*) FROM {table} WHERE user_id = :u"), {"u": user.id})
            assert count.scalar_one() == 0, table


def test_erasing_users_under_load_causes_no_deadlock(
    connections: Engine, start: StartTurn, make_user: Callable[..., LoggedInUser]
) -> None:
    accounts = [make_user() for _ in range(4)]
    errors: list[BaseException] = []

    def chat(account: LoggedInUser) -> None:
        for _ in range(15):
            try:
                begun = start(account)
                assert isinstance(begun, Attempt)
                finish(connections, begun.turn, TurnStatus.COMPLETED, DONE)
            except ParleyError:
                return  # the account is deleted
            except Exception as error:
                errors.append(error)
                return

    def erase(account: LoggedInUser) -> None:
        with connections.connect() as connection:
            connection.execute(text("DELETE FROM users WHERE id = :u"), {"u": account.id})

    with ThreadPoolExecutor(8) as pool:
        for account in accounts:
            pool.submit(chat, account)
        list(pool.map(erase, accounts))
    assert not [error for error in errors if "deadlock" in str(error)]
    with connections.connect() as connection:
        remaining = connection.execute(
            text("SELECT count(*) FROM messages WHERE user_id = ANY(:ids)"),
            {"ids": [account.id for account in accounts]},
        ).scalar_one()
    assert remaining == 0
