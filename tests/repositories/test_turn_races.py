"""The fence, raced on real connections: whatever the order, positions stay contiguous and nobody writes twice."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from app.config import Settings
from app.errors import ConversationBusy, NotFound, ParleyError, TurnFenced
from app.models.turn import TurnStatus
from app.providers.base import Completed
from app.repositories import turns as sql
from app.services.begin import Begun, Prior
from app.services.finish import Answer, finish
from app.services.stale import close_stale
from tests.factories import Account, make_conversation
from tests.repositories.conftest import silence

DONE = Answer("an answer", Completed("stop", "demo"))


def violations(engine: Engine, user_id: UUID) -> list[Any]:
    """Conversations of the user whose positions, counts and messages disagree."""
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


def test_mixed_begins_finishes_cancels_and_takeovers_leave_no_gap(
    connections: Engine, start: Callable[..., Begun | Prior], user: Account
) -> None:
    places = [make_conversation(connections, user) for _ in range(2)]
    counts = {"begun": 0, "busy": 0, "finished": 0, "fenced": 0}
    lock = threading.Lock()

    def count(what: str) -> None:
        with lock:
            counts[what] += 1

    def worker(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            try:
                begun = start(user, conversation_id=chance.choice(places))
            except ConversationBusy:
                count("busy")
                continue
            assert isinstance(begun, Begun)
            count("begun")
            if chance.random() < 0.25:  # this worker dies: whoever comes next takes over, and its late answer is fenced
                silence(connections, begun.turn)
                if chance.random() < 0.5:
                    continue
            status = chance.choice([TurnStatus.COMPLETED, TurnStatus.CANCELLED, TurnStatus.FAILED])
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
        turns, answers, own = connection.execute(
            text("""
            SELECT count(*), count(answer_position),
                   count(*) FILTER (WHERE EXISTS (SELECT FROM messages m WHERE m.user_id = t.user_id
                     AND m.conversation_id = t.conversation_id AND m.position = t.position AND m.turn_id = t.id))
              FROM turns t WHERE user_id = :u"""),
            {"u": user.id},
        ).one()
    assert turns == own == counts["begun"]
    assert answers == counts["finished"]


def test_forty_new_conversations_under_one_key_are_one(
    connections: Engine, start: Callable[..., Begun | Prior], user: Account
) -> None:
    gate = threading.Barrier(40)

    def one(_: int) -> Begun | Prior:
        gate.wait()
        return start(user, idempotency_key="the same")

    with ThreadPoolExecutor(40) as pool:
        results = list(pool.map(one, range(40)))

    begun = [result for result in results if isinstance(result, Begun)]
    assert len(begun) == 1
    assert {result.turn_id for result in results if isinstance(result, Prior)} == {begun[0].turn.id}
    with connections.connect() as connection:
        counted = connection.execute(
            text(
                "SELECT (SELECT count(*) FROM conversations WHERE user_id = :u), count(*) FROM turns WHERE user_id = :u"
            ),
            {"u": user.id},
        ).one()
    assert tuple(counted) == (1, 1)
    assert not violations(connections, user.id)


def test_a_begin_that_waited_sees_the_answer_committed_meanwhile(
    connections: Engine, settings: Settings, start: Callable[..., Begun | Prior], user: Account
) -> None:
    conversation = make_conversation(connections, user)
    with connections.connect() as holder, ThreadPoolExecutor(1) as pool:
        holder.exec_driver_sql("BEGIN")  # by hand: this connection is in AUTOCOMMIT
        holder.execute(
            text("""
            WITH c AS (UPDATE conversations SET next_position = next_position + 2, message_count = message_count + 2
                        WHERE user_id = :u AND id = :c RETURNING user_id, id)
            INSERT INTO messages (user_id, conversation_id, position, role, content)
            SELECT user_id, id, place, role, said
              FROM c, (VALUES (1, 'user', 'hello'), (2, 'assistant', 'just in time')) AS turn(place, role, said)"""),
            {"u": user.id, "c": conversation},
        )
        waiting = pool.submit(start, user, conversation_id=conversation, message="and then?")
        _wait_for_a_lock(connections, user.id)
        holder.exec_driver_sql("COMMIT")
        second = waiting.result(timeout=20)
    assert isinstance(second, Begun)
    assert second.turn.position == 3
    assert [message.content for message in second.context] == ["hello", "just in time", "and then?"]


def _wait_for_a_lock(engine: Engine, user_id: UUID) -> None:
    """Until a begin of this user's is really waiting for the row."""
    deadline = threading.Event()
    for _ in range(400):
        with engine.connect() as connection:
            waiting = connection.execute(
                text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE :own"),
                {"own": f"WITH /* turns.begin */%{user_id}%"},
            ).scalar_one()
        if waiting:
            return
        deadline.wait(0.02)
    pytest.fail("the second begin never waited for the row's lock")


def test_only_one_of_many_begins_gets_the_conversation(
    connections: Engine, start: Callable[..., Begun | Prior], user: Account
) -> None:
    conversation = make_conversation(connections, user)
    gate = threading.Barrier(20)

    def one(_: int) -> object:
        gate.wait()
        try:
            return start(user, conversation_id=conversation)
        except ConversationBusy as busy:
            return busy

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(one, range(20)))
    assert sum(isinstance(result, Begun) for result in results) == 1
    assert all(result.retry_after for result in results if isinstance(result, ConversationBusy))
    assert not violations(connections, user.id)


def test_the_next_caller_closes_a_silent_attempt_and_its_late_answer_is_dropped(
    connections: Engine, start: Callable[..., Begun | Prior], user: Account
) -> None:
    silent = start(user)
    assert isinstance(silent, Begun)
    silence(connections, silent.turn)
    taken = start(user, conversation_id=silent.turn.conversation_id)
    assert isinstance(taken, Begun)
    with pytest.raises(TurnFenced):
        finish(connections, silent.turn, TurnStatus.COMPLETED, DONE)
    finish(connections, taken.turn, TurnStatus.COMPLETED, DONE)
    with connections.connect() as connection:
        found = connection.execute(text("SELECT id, status FROM turns WHERE user_id = :u"), {"u": user.id})
        states = {row.id: row.status for row in found}
    assert states == {silent.turn.id: "interrupted", taken.turn.id: "completed"}
    assert not violations(connections, user.id)


def test_an_attempt_that_still_speaks_is_not_closed(start: Callable[..., Begun | Prior], user: Account) -> None:
    begun = start(user)
    assert isinstance(begun, Begun)
    with pytest.raises(ConversationBusy):
        start(user, conversation_id=begun.turn.conversation_id)


def test_who_looked_before_another_took_over_ends_nothing(
    connections: Engine, start: Callable[..., Begun | Prior], user: Account
) -> None:
    """Two callers find the same silent attempt; the slower one must not end what the faster one has begun."""
    silent = start(user)
    assert isinstance(silent, Begun)
    key = {"user_id": user.id, "conversation_id": silent.turn.conversation_id}
    before = {**key, "turn_id": silent.turn.id, "attempt": silent.turn.attempt}
    silence(connections, silent.turn)
    taken = start(user, conversation_id=silent.turn.conversation_id)
    assert isinstance(taken, Begun)
    with connections.connect() as connection:
        assert not close_stale(connection, **before, stale_seconds=0)
        assert sql.RELEASE.one(connection, before) is None
        now = {**key, "turn_id": taken.turn.id, "attempt": taken.turn.attempt}
        assert not close_stale(connection, **now, stale_seconds=60), "it speaks"
        assert sql.RELEASE.one(connection, now) is None, "it runs"
    finish(connections, taken.turn, TurnStatus.COMPLETED, DONE)


def test_finishing_twice_stores_once(connections: Engine, start: Callable[..., Begun | Prior], user: Account) -> None:
    begun = start(user)
    assert isinstance(begun, Begun)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(finish, connections, begun.turn, TurnStatus.COMPLETED, DONE) for _ in range(8)]
    fenced = [future.exception() for future in futures if future.exception() is not None]
    assert len(fenced) == 7
    assert all(isinstance(error, TurnFenced) for error in fenced)
    assert not violations(connections, user.id)


@pytest.mark.parametrize("whose", ["nobody's", "somebody else's"])
def test_an_unreachable_conversation_is_not_found_and_leaves_no_trace(
    connections: Engine, start: Callable[..., Begun | Prior], user: Account, other_user: Account, whose: str
) -> None:
    target = user.id if whose == "nobody's" else make_conversation(connections, other_user)
    with pytest.raises(NotFound):
        start(user, conversation_id=target)
    with connections.connect() as connection:
        for table in ("conversations", "messages", "turns"):
            found = connection.execute(text(f"SELECT count(*) FROM {table} WHERE user_id = :u"), {"u": user.id})
            assert found.scalar_one() == 0, table


def test_erasing_a_user_under_load_deadlocks_with_nobody(
    connections: Engine, start: Callable[..., Begun | Prior], make_user: Callable[..., Account]
) -> None:
    accounts = [make_user() for _ in range(4)]
    errors: list[BaseException] = []

    def chat(account: Account) -> None:
        for _ in range(15):
            try:
                begun = start(account)
                assert isinstance(begun, Begun)
                finish(connections, begun.turn, TurnStatus.COMPLETED, DONE)
            except ParleyError:
                return  # the account is gone, which is said as such
            except Exception as error:
                errors.append(error)
                return

    def erase(account: Account) -> None:
        with connections.connect() as connection:
            connection.execute(text("DELETE FROM users WHERE id = :u"), {"u": account.id})

    with ThreadPoolExecutor(8) as pool:
        for account in accounts:
            pool.submit(chat, account)
        list(pool.map(erase, accounts))
    assert not [error for error in errors if "deadlock" in str(error)]
    with connections.connect() as connection:
        left = connection.execute(
            text("SELECT count(*) FROM messages WHERE user_id = ANY(:ids)"),
            {"ids": [account.id for account in accounts]},
        ).scalar_one()
    assert left == 0
