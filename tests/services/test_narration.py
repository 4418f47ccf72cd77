"""What a turn says is kept small, and told to everybody as it was said, whenever he comes."""

import threading
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services import narration as module
from app.services.event_log import as_json
from app.services.narration import DELTA, Narration, TurnEvent

SAYINGS = st.one_of(
    st.tuples(st.just(DELTA), st.fixed_dictionaries({"text": st.text(max_size=3)})),
    st.tuples(st.just(DELTA), st.fixed_dictionaries({"text": st.text(max_size=3), "more": st.integers(0, 9)})),
    st.tuples(
        st.sampled_from(["tool.call", "turn.restarted"]), st.dictionaries(st.text(max_size=2), st.integers(0, 9))
    ),
)


def told(narration: Narration, after: int) -> list[TurnEvent]:
    return [event for events in narration.follow(0.01, after) for event in events]


@pytest.fixture(params=[1, 4, 512])
def loose(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOSE", request.param)


@pytest.mark.usefixtures("loose")
@given(
    begins=st.integers(0, 3),
    said=st.lists(st.tuples(SAYINGS, st.integers(1, 2)), max_size=40),
    stored=st.integers(0, 80),
    readers=st.lists(st.integers(0, 90), max_size=5),
)
def test_every_reader_hears_each_event_beyond_his_once(
    begins: int, said: list[tuple[tuple[str, dict[str, Any]], int]], stored: int, readers: list[int]
) -> None:
    narration, expected = Narration(begins), list[TurnEvent]()
    for (kind, data), step in said:
        sequence = narration.last + step
        narration.say(kind, data, sequence=sequence if step > 1 else None)
        expected.append(TurnEvent(sequence, kind, data))
    narration.stored(stored)
    narration.say("turn.completed", {}, last=True)
    expected.append(TurnEvent(narration.last, "turn.completed", {}))
    for after in [0, *readers]:
        assert told(narration, after) == [event for event in expected if event.sequence > after]
    unstored = [event for event in expected if event.sequence > stored]
    assert [event for events in narration.unstored() for event in events] == unstored
    assert orjson.loads(as_json(narration.unstored()) or "[]") == [
        [event.sequence, event.kind, event.data] for event in unstored
    ]
    assert narration.text() == "".join(event.data["text"] for event in expected if event.kind == DELTA)


def test_a_long_answer_in_small_pieces_takes_little_memory() -> None:
    pieces = 200_000
    tracemalloc.start()
    try:
        narration = Narration()
        for number in range(pieces):
            narration.say(DELTA, {"text": "abcdefghij"[number % 10]})
        narration.say("turn.completed", {}, last=True)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        heard = 0
        for events in narration.follow(1):
            heard += len(events)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert heard == pieces + 1
    assert kept < 10 * pieces  # bytes
    assert peak < kept + 2_000_000  # nor does a late reader unpack all of it at once


def test_a_reader_hears_what_is_said_while_he_listens() -> None:
    narration, heard = Narration(), list[int]()
    first = threading.Event()

    def listen() -> None:
        for events in narration.follow(20):
            heard.extend(event.sequence for event in events)
            first.set()

    reader = threading.Thread(target=listen)
    reader.start()
    narration.say(DELTA, {"text": "a"})
    assert first.wait(20)
    for _ in range(5_000):
        narration.say(DELTA, {"text": "b"})
    narration.say("turn.completed", {}, last=True)
    reader.join(20)
    assert heard == list(range(1, 5_003))


def test_silence_is_told_as_nothing_and_goes_on() -> None:
    narration = Narration(after=7)
    listening = narration.follow(0.01)
    assert next(listening) == []
    narration.say(DELTA, {"text": "a"}, last=True)
    assert [event.sequence for event in next(listening)] == [8]
    assert list(listening) == []
