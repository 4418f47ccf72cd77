"""In-memory event log of one turn: one writer, any number of readers, and a mark of what is stored.

All events are kept while the turn is in memory, because a reader may come late or resume with `Last-Event-ID`. Old text
deltas are packed: each then takes its characters and four bytes, instead of the 350 bytes of an object.
"""

import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Any

from gevent import monkey

STARTED, RESTARTED = "turn.started", "turn.restarted"
DELTA, COMPLETED = "message.delta", "message.completed"
TOOL_CALL, TOOL_RESULT = "tool.call", "tool.result"
CHUNK_EVENTS = 512  # events that are packed at once, when twice as many are unpacked

# A native lock, because gevent's costs ten times as much. It is held for a few instructions, never across a switch.
_Lock = monkey.get_original("threading", "Lock")

_sequence = attrgetter("sequence")
_last_sequence = attrgetter("last_sequence")


@dataclass(slots=True)
class TurnEvent:
    """One event of the stream. Sequences increase by one, or by more where another attempt or process continues."""

    sequence: int
    kind: str
    data: dict[str, Any]

    @property
    def last_sequence(self) -> int:
        """Its sequence, as for `_PackedDeltas`."""
        return self.sequence

    @property
    def text(self) -> str:
        """Its text if it is a delta, else an empty string."""
        return self.data["text"] if self.kind == DELTA else ""

    def events_after(self, after: int) -> list["TurnEvent"]:
        """Return this event if its sequence is greater than `after`."""
        return [self] if self.sequence > after else []


class _PackedDeltas:
    """Text deltas with consecutive sequences up to `last_sequence`."""

    __slots__ = ("_ends", "_first_sequence", "last_sequence", "text")

    def __init__(self, events: list[TurnEvent]) -> None:
        self._first_sequence, self.last_sequence = events[0].sequence, events[-1].sequence
        deltas = [event.text for event in events]
        self.text = "".join(deltas)
        self._ends = array("I", accumulate(map(len, deltas)))  # offset in `text` after each delta

    def events_after(self, after: int) -> list[TurnEvent]:
        """Return the events whose sequence is greater than `after`, unpacked."""
        skipped = max(0, after + 1 - self._first_sequence)
        start, events = self._ends[skipped - 1] if skipped else 0, []
        for sequence, end in enumerate(self._ends[skipped:], self._first_sequence + skipped):
            events.append(TurnEvent(sequence, DELTA, {"text": self.text[start:end]}))
            start = end
        return events


class Reader:
    """One reader of a `TurnEventBuffer`."""

    __slots__ = ("stopped", "waiter")

    def __init__(self) -> None:
        self.stopped = False
        self.waiter = threading.Lock()  # locked; releasing it wakes the reader
        self.waiter.acquire()


class TurnEventBuffer:
    """The events of one turn after the sequence `after`. Thread-safe."""

    def __init__(self, after: int = 0) -> None:
        self._packed: list[_PackedDeltas | TurnEvent] = []
        self._unpacked: list[TurnEvent] = []
        self._last_sequence = self._stored_sequence = after
        self._closed = False
        self._lock = _Lock()
        # The locks of the waiting readers.
        self._waiting_for_event: list[threading.Lock] = []
        self._waiting_for_end: list[threading.Lock] = []

    @property
    def last_sequence(self) -> int:
        """The sequence of the last event; without events, the one that the buffer began after."""
        return self._last_sequence

    @property
    def closed(self) -> bool:
        """Whether the last event has been appended."""
        return self._closed

    def append(self, kind: str, data: dict[str, Any], *, sequence: int | None = None, last: bool = False) -> None:
        """Append an event and wake the readers. `sequence` defaults to the next one, and may only skip ahead."""
        with self._lock:
            self._last_sequence = self._last_sequence + 1 if sequence is None else sequence
            self._unpacked.append(TurnEvent(self._last_sequence, kind, data))
            if len(self._unpacked) == 2 * CHUNK_EVENTS:
                self._pack()
            self._closed = last
            waiters = self._pop_waiters()
        for waiter in waiters:
            waiter.release()

    def wait(self) -> None:
        """Block until the last event has been appended."""
        waiter = threading.Lock()
        waiter.acquire()
        with self._lock:
            if self._closed:
                return
            self._waiting_for_end.append(waiter)
        waiter.acquire()

    def text(self) -> str:
        """Return the concatenated deltas."""
        with self._lock:
            return "".join(part.text for part in (*self._packed, *self._unpacked))

    def subscribe(
        self, ping_interval: float, after: int = 0, reader: Reader | None = None
    ) -> Iterator[list[TurnEvent]]:
        """Yield the events after the sequence `after`, in lists of what is available, until the last event.

        `stop(reader)` ends the iteration before that.

        The first list comes at once and may be empty; later, an empty list comes after `ping_interval` seconds without
        an event.
        """
        reader = reader or Reader()
        waiter, yielded = reader.waiter, False
        while True:
            with self._lock:
                if reader.stopped:
                    return
                events, closed = self._events_after(after), self._closed
                if yielded and not events and not closed:
                    self._waiting_for_event.append(waiter)
            if events or not yielded:
                after = events[-1].sequence if events else after
                yielded = True
                yield events
            elif closed:
                return
            elif not waiter.acquire(timeout=ping_interval):
                with self._lock:
                    if waiter in self._waiting_for_event:
                        self._waiting_for_event.remove(waiter)
                yield []

    def stop(self, reader: Reader) -> None:
        """End the iteration of `reader`, now if it waits, else before its next event. Thread-safe."""
        with self._lock:
            reader.stopped = True
            is_waiting = reader.waiter in self._waiting_for_event
            if is_waiting:
                self._waiting_for_event.remove(reader.waiter)
        if is_waiting:
            reader.waiter.release()

    def pending(self) -> Iterator[list[TurnEvent]]:
        """Yield the events that are not marked as stored, in order and in batches."""
        after = self._stored_sequence
        while True:
            with self._lock:
                events = self._events_after(after)
            if not events:
                return
            yield events
            after = events[-1].sequence

    def mark_stored(self, sequence: int) -> None:
        """Mark all events up to `sequence` as stored."""
        self._stored_sequence = sequence

    def _pop_waiters(self) -> list[threading.Lock]:
        waiters, self._waiting_for_event = self._waiting_for_event, []
        if self._closed:
            waiters += self._waiting_for_end
            self._waiting_for_end = []
        return waiters

    def _events_after(self, after: int) -> list[TurnEvent]:
        """Return the next events after `after`; of packed events, only those of one chunk."""
        if self._packed and after < self._packed[-1].last_sequence:
            return self._packed[bisect_right(self._packed, after, key=_last_sequence)].events_after(after)
        if after >= self._last_sequence - 1:  # the usual case: the reader lacks the newest event at most
            return self._unpacked[-1:] if after < self._last_sequence else []
        return self._unpacked[bisect_right(self._unpacked, after, key=_sequence) :]

    def _pack(self) -> None:
        old, self._unpacked = self._unpacked[:CHUNK_EVENTS], self._unpacked[CHUNK_EVENTS:]
        # Consecutive sequences share sequence minus index. Only deltas with nothing but text can be packed.
        runs = groupby(
            enumerate(old), lambda item: (set(item[1].data) == {"text"}, item[1].kind, item[1].sequence - item[0])
        )
        for (only_text, kind, _), run in runs:
            events = [event for _, event in run]
            self._packed += [_PackedDeltas(events)] if only_text and kind == DELTA else events
