"""Closing of a stale turn, in each way: the text that its stored events hold becomes its answer, once."""

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.enums import TurnStatus
from app.errors import TurnFenced
from app.providers.base import Completed
from app.repositories import turn_events, turns
from app.turns.answer import Answer
from app.turns.attempt import Attempt
from app.turns.decision import Start
from app.turns.event_buffer import COMPLETED, DELTA, RESTARTED, STARTED
from app.turns.finish import finish
from app.turns.remote import RemoteTurnPoller
from app.turns.replay import replay
from app.turns.stale import close_stale
from app.turns.stream import RunningTurn, TurnStream
from ops.maintenance.turns import close_stale_turns
from tests.factories import LoggedInUser
from tests.repositories.conftest import RetryTurn, StartTurn, make_stale
from tests.repositories.test_turn_races import violations
from tests.waiting import wait_until

Event = tuple[int, str, dict[str, Any]]
Close = Callable[[RunningTurn], None]

STALE_SECONDS = 15.0


def deltas(*texts: str, first: int = 2) -> list[Event]:
    return [(sequence, DELTA, {"text": text}) for sequence, text in enumerate(texts, first)]


def store(engine: Engine, turn: RunningTurn, *batches: list[Event]) -> None:
    """Store batches of events, as the turn's process does."""
    for events in batches:
        batch = {
            "user_id": turn.user_id,
            "turn_id": turn.id,
            "attempt": turn.attempt,
            "sequence": events[-1][0],
            "events": events,
        }
        with engine.connect() as connection:
            turn_events.APPEND.all(connection, {"batches": orjson.dumps([batch]).decode()})


def messages(engine: Engine, turn: RunningTurn) -> list[tuple[int, str, str, dict[str, Any]]]:
    query = "SELECT position, role, content, metadata FROM messages WHERE user_id = :u AND conversation_id = :c"
    with engine.connect() as connection:
        rows = connection.execute(text(f"{query} ORDER BY position"), {"u": turn.user_id, "c": turn.conversation_id})
        return [tuple(row) for row in rows]


def row_of(engine: Engine, turn: RunningTurn) -> Any:
    with engine.connect() as connection:
        return turns.GET.one(connection, {"user_id": turn.user_id, "turn_id": turn.id, "stale_seconds": STALE_SECONDS})


def replayed(engine: Engine, turn: RunningTurn, after: int = 0) -> TurnStream:
    with engine.connect() as connection:
        return replay(connection, turn.user_id, row_of(engine, turn), after).stream


@pytest.fixture
def begun(start: StartTurn, user: LoggedInUser) -> RunningTurn:
    attempt = start(user, idempotency_key="once")
    assert isinstance(attempt, Attempt)
    return attempt.turn


def key_of(turn: RunningTurn) -> dict[str, UUID]:
    return {
        "user_id": turn.user_id,
        "conversation_id": turn.conversation_id,
        "turn_id": turn.id,
        "attempt": turn.attempt,
    }


@pytest.fixture(params=["caller", "follower", "job"])
def close(
    request: pytest.FixtureRequest, flask_app: Flask, connections: Engine, start: StartTurn, user: LoggedInUser
) -> Close:
    """Return a function that makes a turn stale and closes it, in each of the ways that there are."""

    def by_caller(turn: RunningTurn) -> None:
        attempt = start(user, conversation_id=turn.conversation_id, message="and now?")
        assert isinstance(attempt, Attempt)
        assert attempt.context[-2].content == "half an answer"
        finish(connections, attempt.turn, TurnStatus.COMPLETED, Answer("now", Completed("stop", "demo")))

    def by_follower(turn: RunningTurn) -> None:
        poller = RemoteTurnPoller(connections, STALE_SECONDS)
        with connections.connect() as connection:
            stream = poller.subscribe(connection, user.id, row_of(connections, turn)).stream
        outcome = stream.wait()
        assert outcome.status is TurnStatus.INTERRUPTED
        assert outcome.answer
        assert outcome.answer["content"] == "half an answer"
        assert text_after_restart(stream) == "half an answer"

    def by_job(turn: RunningTurn) -> None:
        with flask_app.app_context():
            close_stale_turns(stale_seconds=STALE_SECONDS)

    def close(turn: RunningTurn) -> None:
        make_stale(connections, turn)
        {"caller": by_caller, "follower": by_follower, "job": by_job}[request.param](turn)

    return close


def text_after_restart(stream: TurnStream) -> str:
    """Return the text that a reader of the whole stream has at its end."""
    assembled = ""
    for events in stream.events.subscribe(1):
        for event in events:
            assembled = "" if event.kind in (STARTED, RESTARTED) else assembled + event.text
    return assembled


def test_stored_events_become_the_partial_answer(
    connections: Engine, close: Close, begun: RunningTurn, user: LoggedInUser
) -> None:
    opening = (1, STARTED, {})
    store(connections, begun, [opening, *deltas("half ")], deltas("an ", "answer", first=3))
    close(begun)
    assert messages(connections, begun)[:2] == [
        (1, "user", "hello", {}),
        (2, "assistant", "half an answer", {"partial": "interrupted"}),
    ]
    row = row_of(connections, begun)
    assert (row.status, row.answer_position, row.error["code"]) == ("interrupted", 2, "interrupted")
    for after in (0, 2, 4, 9):
        stream = replayed(connections, begun, after)
        assert text_after_restart(stream) == "half an answer"
        assert COMPLETED in [event.kind for events in stream.events.subscribe(1) for event in events]
    assert not violations(connections, user.id)
    with connections.connect() as connection:
        assert not close_stale(connection, **key_of(begun), stale_seconds=0)
        preview = connection.execute(
            text("SELECT preview FROM conversations WHERE user_id = :u AND id = :c"),
            {"u": user.id, "c": begun.conversation_id},
        ).scalar_one()
    assert preview in ("half an answer", "now")


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([[(1, STARTED, {}), *deltas("a", "b")], [(1, STARTED, {}), *deltas("a", "b", "c")]], "abc"),  # sent twice
        ([[(1, STARTED, {}), *deltas("a", "b", "c", "d")], deltas("c", "d", "e", first=4)], "abcde"),
        ([[(1, STARTED, {}), *deltas("a")], deltas("x", first=9)], "a"),  # a batch is missing
        ([deltas("b", "c", first=7)], ""),  # the beginning was purged
        ([[(1, STARTED, {}), *deltas("a")], [(3, RESTARTED, {}), *deltas("b", first=4)]], "b"),
        ([[(1, STARTED, {})]], ""),
        ([], ""),
        ([[(1, STARTED, {}), *deltas("\U0001f600", '"\\', "\ufffd<b>")]], '\U0001f600"\\\ufffd<b>'),
    ],
)
def test_partial_answer_has_each_event_once_and_no_gap(
    connections: Engine, begun: RunningTurn, batches: list[list[Event]], expected: str
) -> None:
    store(connections, begun, *batches)
    make_stale(connections, begun)
    with connections.connect() as connection:
        assert close_stale(connection, **key_of(begun), stale_seconds=STALE_SECONDS)
    assert [row[2] for row in messages(connections, begun)] == ["hello", *filter(None, [expected])]
    assert text_after_restart(replayed(connections, begun)) == expected


def test_many_batches_are_read_to_the_end(connections: Engine, begun: RunningTurn) -> None:
    store(connections, begun, [(1, STARTED, {})], *([event] for event in deltas(*map(str, range(200)))))
    make_stale(connections, begun)
    with connections.connect() as connection:
        close_stale(connection, **key_of(begun), stale_seconds=STALE_SECONDS)
    assert messages(connections, begun)[1][2] == "".join(map(str, range(200)))


def test_new_attempt_continues_after_the_partial_answer(
    connections: Engine, start: StartTurn, retry: RetryTurn, begun: RunningTurn, user: LoggedInUser
) -> None:
    store(connections, begun, [(1, STARTED, {}), *deltas("half")])
    make_stale(connections, begun)
    started = retry(user, begun.id, chat={})
    assert isinstance(started, Start)
    again = started.attempt.turn
    assert [message.content for message in started.attempt.context] == ["hello"]
    # Its own events follow those of the first attempt, and only they are its text.
    first = again.events.last_sequence + 1
    assert first > 100_000
    store(connections, again, [(first, RESTARTED, {}), *deltas("other", first=first + 1)])
    make_stale(connections, again)
    with connections.connect() as connection:
        assert close_stale(connection, **key_of(again), stale_seconds=STALE_SECONDS)
    partial = {"partial": "interrupted"}
    assert [(row[2], row[3]) for row in messages(connections, begun)[1:]] == [("half", partial), ("other", partial)]
    assert text_after_restart(replayed(connections, begun)) == "other"
    last = retry(user, begun.id, chat={})
    assert isinstance(last, Start)
    finish(connections, last.attempt.turn, TurnStatus.COMPLETED, Answer("whole", Completed("stop", "demo")))
    assert text_after_restart(replayed(connections, begun)) == "whole"
    assert row_of(connections, begun).answer_position == 4
    assert not violations(connections, user.id)


def test_events_and_close_at_the_same_time_never_show_what_is_not_kept(
    connections: Engine, start: StartTurn, user: LoggedInUser
) -> None:
    """A slow process stores events while another one closes its attempt."""
    for _ in range(20):
        attempt = start(user)
        assert isinstance(attempt, Attempt)
        turn = attempt.turn
        store(connections, turn, [(1, STARTED, {})])
        make_stale(connections, turn)
        stop = threading.Event()

        def write(turn: RunningTurn = turn, stop: threading.Event = stop) -> None:
            for event in deltas(*map(str, range(10_000))):
                if stop.is_set():
                    return
                store(connections, turn, [event])

        writer = threading.Thread(target=write)
        writer.start()
        wait_until(lambda turn=turn: _stored(connections, turn) > 3)  # type: ignore[misc]
        with connections.connect() as connection:
            assert close_stale(connection, **key_of(turn), stale_seconds=STALE_SECONDS)
        time.sleep(0.01)
        stop.set()
        writer.join()
        shown = "".join(map(str, range(_stored(connections, turn) - 1)))
        assert messages(connections, turn)[1][2] == shown


def _stored(engine: Engine, turn: RunningTurn) -> int:
    with engine.connect() as connection:
        count = "SELECT count(*) FROM turn_events WHERE user_id = :u AND turn_id = :t"
        return int(connection.execute(text(count), {"u": turn.user_id, "t": turn.id}).scalar_one())


def test_late_finish_of_closed_attempt_stores_nothing(connections: Engine, begun: RunningTurn) -> None:
    store(connections, begun, [(1, STARTED, {}), *deltas("half")])
    make_stale(connections, begun)
    with connections.connect() as connection:
        close_stale(connection, **key_of(begun), stale_seconds=STALE_SECONDS)
    with pytest.raises(TurnFenced):
        finish(connections, begun, TurnStatus.COMPLETED, Answer("whole", Completed("stop", "demo")))
    assert [row[2] for row in messages(connections, begun)] == ["hello", "half"]


def test_long_partial_answer_is_cut_and_marked(connections: Engine, begun: RunningTurn) -> None:
    store(connections, begun, [(1, STARTED, {}), *deltas(*["x" * 100_000] * 11)])
    make_stale(connections, begun)
    with connections.connect() as connection:
        close_stale(connection, **key_of(begun), stale_seconds=STALE_SECONDS)
    answer = messages(connections, begun)[1]
    assert (len(answer[2]), answer[3]) == (1_000_000, {"partial": "interrupted", "truncated": True})
