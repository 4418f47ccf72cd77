"""The limit of a user's running turns: concurrent begins on separate connections, counted by PostgreSQL."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from app.enums import TurnStatus
from app.errors import ParleyError, TooManyTurns
from app.providers.base import Completed
from app.turns.answer import Answer
from app.turns.attempt import Attempt
from app.turns.decision import Start
from app.turns.finish import finish
from tests.factories import LoggedInUser, make_conversation
from tests.repositories.conftest import RetryTurn, StartTurn, make_stale

DONE = Answer("an answer", Completed("stop", "demo"))
LIMIT = 5
LIMITED = {"max_running_per_user": LIMIT}


def count_rows(engine: Engine, account: LoggedInUser) -> dict[str, int]:
    """Count the user's rows, and the slots that the running turns hold."""
    with engine.connect() as connection:
        row = connection.execute(
            text("""
            SELECT (SELECT count(*) FROM conversations WHERE user_id = :u) AS conversations,
                   (SELECT count(*) FROM messages WHERE user_id = :u) AS messages, count(*) AS turns,
                   count(*) FILTER (WHERE status = 'running') AS running,
                   count(DISTINCT slot) FILTER (WHERE status = 'running') AS slots
              FROM turns WHERE user_id = :u"""),
            {"u": account.id},
        ).one()
    return dict(row._mapping)


def race(start: StartTurn, account: LoggedInUser, racers: int = 40) -> list[Attempt | ParleyError]:
    """Begin new conversations at the same time."""
    barrier = threading.Barrier(racers)

    def begin(_: int) -> Attempt | ParleyError:
        barrier.wait()
        try:
            begun = start(account, chat=LIMITED)
        except ParleyError as error:
            return error
        assert isinstance(begun, Attempt)
        return begun

    with ThreadPoolExecutor(racers) as pool:
        return list(pool.map(begin, range(racers)))


def test_concurrent_begins_start_exactly_the_limit(
    connections: Engine, start: StartTurn, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    results = race(start, user)
    assert Counter(type(result) for result in results) == {Attempt: LIMIT, TooManyTurns: 40 - LIMIT}
    assert all(result.retry_after for result in results if isinstance(result, TooManyTurns))
    assert count_rows(connections, user) == dict.fromkeys(
        ("conversations", "messages", "turns", "running", "slots"), LIMIT
    )
    assert isinstance(start(other_user, chat=LIMITED), Attempt)


def test_limit_holds_under_load(connections: Engine, start: StartTurn, user: LoggedInUser) -> None:
    """Every end releases its slot. The unique index would raise an error for a sixth turn."""
    outcomes = Counter[str]()
    lock = threading.Lock()

    def worker(number: int) -> None:
        status = [TurnStatus.COMPLETED, TurnStatus.CANCELLED, TurnStatus.FAILED][number % 3]
        for _ in range(15):
            try:
                begun = start(user, chat=LIMITED)
            except TooManyTurns:
                outcome = "rejected"
            else:
                assert isinstance(begun, Attempt)
                running = count_rows(connections, user)["running"]
                assert 1 <= running <= LIMIT
                finish(connections, begun.turn, status, DONE)
                outcome = "begun"
            with lock:
                outcomes[outcome] += 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(worker, range(12)))
    assert outcomes["begun"] > LIMIT
    assert outcomes.total() == 12 * 15
    rows = count_rows(connections, user)
    assert (rows["running"], rows["turns"]) == (0, outcomes["begun"])
    assert isinstance(start(user, chat=LIMITED), Attempt)


def test_stale_turns_are_closed_when_limit_is_reached(
    connections: Engine, start: StartTurn, user: LoggedInUser
) -> None:
    begun = [start(user, chat=LIMITED) for _ in range(LIMIT)]
    for attempt in begun[:2]:
        assert isinstance(attempt, Attempt)
        make_stale(connections, attempt.turn)
    assert isinstance(start(user, chat=LIMITED), Attempt)
    with connections.connect() as connection:
        turns = connection.execute(text("SELECT status FROM turns WHERE user_id = :u"), {"u": user.id})
        assert Counter(row.status for row in turns) == {"running": LIMIT - 1, "interrupted": 2}
    assert isinstance(start(user, chat=LIMITED), Attempt)
    with pytest.raises(TooManyTurns, match=f"the limit is {LIMIT}"):
        start(user, chat=LIMITED)


def test_retry_needs_a_slot(connections: Engine, start: StartTurn, retry: RetryTurn, user: LoggedInUser) -> None:
    failed = start(user, chat=LIMITED, idempotency_key="once")
    assert isinstance(failed, Attempt)
    finish(connections, failed.turn, TurnStatus.FAILED, Answer(""))
    others = [start(user, chat=LIMITED) for _ in range(LIMIT)]
    with pytest.raises(TooManyTurns):
        retry(user, failed.turn.id, chat=LIMITED)
    assert isinstance(others[0], Attempt)
    finish(connections, others[0].turn, TurnStatus.COMPLETED, DONE)
    assert isinstance(retry(user, failed.turn.id, chat=LIMITED), Start)


def test_turns_without_limit_hold_no_slots(connections: Engine, start: StartTurn, user: LoggedInUser) -> None:
    for _ in range(LIMIT + 1):
        assert isinstance(start(user, chat={"max_running_per_user": 0}), Attempt)
    assert count_rows(connections, user)["slots"] == 0
    # A process with a limit, set while they ran, does not count them.
    assert isinstance(start(user, chat=LIMITED), Attempt)


def test_other_errors_precede_limit_error(connections: Engine, start: StartTurn, user: LoggedInUser) -> None:
    begun = [start(user, chat=LIMITED, conversation_id=make_conversation(connections, user)) for _ in range(LIMIT)]
    assert isinstance(begun[0], Attempt)
    with pytest.raises(ParleyError) as busy:
        start(user, chat=LIMITED, conversation_id=begun[0].turn.conversation_id)
    assert busy.value.code == "conversation_busy"
    with pytest.raises(ParleyError) as missing:
        start(user, chat=LIMITED, conversation_id=user.id)
    assert missing.value.code == "not_found"
    with pytest.raises(TooManyTurns):
        start(user, chat=LIMITED, conversation_id=make_conversation(connections, user))
