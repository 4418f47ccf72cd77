"""`TurnEventBuffer`: bounded memory, and the same events for every reader."""

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.turns import event_buffer as module
from app.turns.event_buffer import DELTA, Reader, TurnEvent, TurnEventBuffer
from app.turns.event_store import as_json
from tests.waiting import wait_until

KINDS_AND_DATA = st.one_of(
    st.tuples(st.just(DELTA), st.fixed_dictionaries({"text": st.text(max_size=3)})),
    st.tuples(st.just(DELTA), st.fixed_dictionaries({"text": st.text(max_size=3), "more": st.integers(0, 9)})),
    st.tuples(
        st.sampled_from(["tool.call", "turn.restarted"]), st.dictionaries(st.text(max_size=2), st.integers(0, 9))
    ),
)


def read(buffer: TurnEventBuffer, after: int) -> list[TurnEvent]:
    return [event for events in buffer.subscribe(0.01, after) for event in events]


@pytest.fixture(params=[1, 4, 512])
def chunk_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_EVENTS", request.param)


@pytest.mark.usefixtures("chunk_size")
@given(
    start=st.integers(0, 3),
    appended=st.lists(st.tuples(KINDS_AND_DATA, st.integers(1, 2)), max_size=40),
    stored=st.integers(0, 80),
    readers=st.lists(st.integers(0, 90), max_size=5),
)
def test_reader_receives_each_later_event_once(
    start: int, appended: list[tuple[tuple[str, dict[str, Any]], int]], stored: int, readers: list[int]
) -> None:
    buffer, expected = TurnEventBuffer(start), list[TurnEvent]()
    for (kind, data), step in appended:
        sequence = buffer.last_sequence + step
        buffer.append(kind, data, sequence=sequence if step > 1 else None)
        expected.append(TurnEvent(sequence, kind, data))
    buffer.mark_stored(stored)
    buffer.append("turn.completed", {}, last=True)
    expected.append(TurnEvent(buffer.last_sequence, "turn.completed", {}))
    for after in [0, *readers]:
        assert read(buffer, after) == [event for event in expected if event.sequence > after]
    pending = [event for event in expected if event.sequence > stored]
    assert [event for events in buffer.pending() for event in events] == pending
    assert orjson.loads(as_json(buffer.pending()) or "[]") == [
        [event.sequence, event.kind, event.data] for event in pending
    ]
    assert buffer.text() == "".join(event.data["text"] for event in expected if event.kind == DELTA)


def test_long_answer_in_small_deltas_uses_little_memory() -> None:
    deltas = 200_000
    tracemalloc.start()
    try:
        buffer = TurnEventBuffer()
        for number in range(deltas):
            buffer.append(DELTA, {"text": "abcdefghij"[number % 10]})
        buffer.append("turn.completed", {}, last=True)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        received = 0
        for events in buffer.subscribe(1):
            received += len(events)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert received == deltas + 1
    assert kept < 10 * deltas  # bytes
    assert peak < kept + 2_000_000  # a late reader does not unpack all events at once


def test_reader_receives_events_while_waiting() -> None:
    buffer, received = TurnEventBuffer(), list[int]()
    first = threading.Event()

    def subscribe() -> None:
        for events in buffer.subscribe(20):
            received.extend(event.sequence for event in events)
            first.set()

    reader = threading.Thread(target=subscribe)
    reader.start()
    buffer.append(DELTA, {"text": "a"})
    assert first.wait(20)
    for _ in range(5_000):
        buffer.append(DELTA, {"text": "b"})
    buffer.append("turn.completed", {}, last=True)
    reader.join(20)
    assert received == list(range(1, 5_003))


def test_silence_yields_empty_lists() -> None:
    buffer = TurnEventBuffer(after=7)
    lists = buffer.subscribe(0.01)
    assert next(lists) == []
    buffer.append(DELTA, {"text": "a"}, last=True)
    assert [event.sequence for event in next(lists)] == [8]
    assert list(lists) == []


def test_stop_ends_waiting_reader_and_no_other() -> None:
    buffer, stopped, other = TurnEventBuffer(), Reader(), Reader()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(lambda: list(buffer.subscribe(60, reader=stopped)))
        second = threads.submit(lambda: list(buffer.subscribe(60, reader=other)))
        wait_until(lambda: len(buffer._waiting_for_event) == 2, "both readers wait")
        buffer.stop(stopped)
        assert first.result(timeout=20) == [[]]
        buffer.append(DELTA, {"text": "a"}, last=True)
        assert [len(events) for events in second.result(timeout=20)] == [0, 1]


def test_stopped_reader_receives_no_later_event() -> None:
    buffer, reader = TurnEventBuffer(), Reader()
    lists = buffer.subscribe(60, reader=reader)
    buffer.append(DELTA, {"text": "a"})
    assert [event.sequence for event in next(lists)] == [1]
    buffer.stop(reader)
    buffer.append(DELTA, {"text": "b"})
    assert list(lists) == []
