"""What a turn says, event by event: one writer, readers who come and go, and what is still to be stored.

Nothing is forgotten while the turn is told, because a reader may come late, or again with its `Last-Event-ID`. What has
been said a while ago is packed: a piece of text then takes its characters and four bytes, not the 350 of an object.
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

DELTA = "message.delta"
_LOOSE = 512  # events that are packed at once; twice as many may be loose

# gevent's own lock costs ten times as much, and nobody waits or switches while he holds this one.
_Lock = monkey.get_original("threading", "Lock")

_sequence = attrgetter("sequence")
_last = attrgetter("last")


@dataclass(slots=True)
class TurnEvent:
    """One event of the stream. `sequence` grows by one, and by more where another attempt or process goes on."""

    sequence: int
    kind: str
    data: dict[str, Any]

    @property
    def last(self) -> int:
        return self.sequence

    @property
    def text(self) -> str:
        """The piece of the answer that this is, if it is one."""
        return self.data["text"] if self.kind == DELTA else ""

    def beyond(self, after: int) -> list["TurnEvent"]:
        return [self] if self.sequence > after else []


class _Deltas:
    """Pieces of the answer's text with consecutive sequences, `last` included."""

    __slots__ = ("_ends", "_first", "last", "text")

    def __init__(self, events: list[TurnEvent]) -> None:
        self._first, self.last = events[0].sequence, events[-1].sequence
        pieces = [event.text for event in events]
        self.text = "".join(pieces)
        self._ends = array("I", accumulate(map(len, pieces)))  # of each piece, in the text

    def beyond(self, after: int) -> list[TurnEvent]:
        """Those whose sequence is greater than `after`, as they were said."""
        skipped = max(0, after + 1 - self._first)
        start, events = self._ends[skipped - 1] if skipped else 0, []
        for sequence, end in enumerate(self._ends[skipped:], self._first + skipped):
            events.append(TurnEvent(sequence, DELTA, {"text": self.text[start:end]}))
            start = end
        return events


class Narration:
    """The events of one turn since `after`, the sequence of the last event before. Thread-safe."""

    def __init__(self, after: int = 0) -> None:
        self._packed: list[_Deltas | TurnEvent] = []
        self._loose: list[TurnEvent] = []
        self._last = self._stored = after
        self._over = False
        self._changing = _Lock()
        # Locks that are held by whoever waits, and released to wake him: for the next event, or for the last one.
        self._listening: list[threading.Lock] = []
        self._waiting: list[threading.Lock] = []

    @property
    def last(self) -> int:
        """The sequence of the last event; of the one before the first, as long as there is none."""
        return self._last

    @property
    def over(self) -> bool:
        """Whether the last event has been said."""
        return self._over

    def say(self, kind: str, data: dict[str, Any], *, sequence: int | None = None, last: bool = False) -> None:
        """Append an event, the next in number unless `sequence` names a later one, and wake the readers."""
        with self._changing:
            self._last = self._last + 1 if sequence is None else sequence
            self._loose.append(TurnEvent(self._last, kind, data))
            if len(self._loose) == 2 * _LOOSE:
                self._pack()
            self._over = last
            woken = self._woken()
        for bell in woken:
            bell.release()

    def wait(self) -> None:
        """Block until the last event has been said."""
        bell = threading.Lock()
        bell.acquire()
        with self._changing:
            if self._over:
                return
            self._waiting.append(bell)
        bell.acquire()

    def text(self) -> str:
        """All pieces of the answer that have been said, in one."""
        with self._changing:
            return "".join(part.text for part in (*self._packed, *self._loose))

    def follow(self, silence: float, after: int = 0) -> Iterator[list[TurnEvent]]:
        """Every event beyond `after`, to the last, as many at a time as are there.

        The first answer comes at once, and an empty one after each `silence` seconds.
        """
        bell = threading.Lock()
        bell.acquire()
        yielded = False
        while True:
            with self._changing:
                events, over = self._beyond(after), self._over
                if yielded and not events and not over:
                    self._listening.append(bell)
            if events or not yielded:
                after = events[-1].sequence if events else after
                yielded = True
                yield events
            elif over:
                return
            elif not bell.acquire(timeout=silence):
                with self._changing:
                    if bell in self._listening:
                        self._listening.remove(bell)
                yield []

    def unstored(self) -> Iterator[list[TurnEvent]]:
        """What has been said and not stored, in order and in batches."""
        after = self._stored
        while True:
            with self._changing:
                events = self._beyond(after)
            if not events:
                return
            yield events
            after = events[-1].sequence

    def stored(self, sequence: int) -> None:
        """All events up to this one have been stored."""
        self._stored = sequence

    def _woken(self) -> list[threading.Lock]:
        woken, self._listening = self._listening, []
        if self._over:
            woken += self._waiting
            self._waiting = []
        return woken

    def _beyond(self, after: int) -> list[TurnEvent]:
        """The next events beyond `after`: not all, where many are packed."""
        if self._packed and after < self._packed[-1].last:
            return self._packed[bisect_right(self._packed, after, key=_last)].beyond(after)
        if after >= self._last - 1:  # whoever listens has heard all but what has just been said, or that too
            return self._loose[-1:] if after < self._last else []
        return self._loose[bisect_right(self._loose, after, key=_sequence) :]

    def _pack(self) -> None:
        old, self._loose = self._loose[:_LOOSE], self._loose[_LOOSE:]
        # What is a piece of text, and nothing else; of these, what is next to each other shares sequence minus place.
        runs = groupby(enumerate(old), lambda at: (set(at[1].data) == {"text"}, at[1].kind, at[1].sequence - at[0]))
        for (is_text, kind, _), run in runs:
            events = [event for _, event in run]
            self._packed += [_Deltas(events)] if is_text and kind == DELTA else events
