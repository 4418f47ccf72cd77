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

DELTA = "message.delta"
_LOOSE = 512  # events that are packed at once; twice as many may be loose

_sequence = attrgetter("sequence")
_last = attrgetter("last")


@dataclass(frozen=True, slots=True)
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
        self._changed = threading.Condition()

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
        with self._changed:
            self._last = self._last + 1 if sequence is None else sequence
            self._loose.append(TurnEvent(self._last, kind, data))
            if len(self._loose) == 2 * _LOOSE:
                self._pack()
            self._over = last
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nothing more will be said here, and how it ended is not known: let the readers go."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait(self) -> None:
        """Block until the last event has been said."""
        with self._changed:
            self._changed.wait_for(lambda: self._over)

    def text(self) -> str:
        """All pieces of the answer that have been said, in one."""
        with self._changed:
            return "".join(part.text for part in (*self._packed, *self._loose))

    def follow(self, silence: float, after: int = 0) -> Iterator[list[TurnEvent]]:
        """Every event beyond `after`, to the last, as many at a time as are there; none after `silence` seconds."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._over or self._has_beyond(after), timeout=silence)  # noqa: B023  # used at once
                events, over = self._beyond(after), self._over
            if events:
                after = events[-1].sequence
            elif over:
                return
            yield events

    def unstored(self) -> Iterator[list[TurnEvent]]:
        """What has been said and not stored, in order and in batches."""
        after = self._stored
        while True:
            with self._changed:
                events = self._beyond(after)
            if not events:
                return
            yield events
            after = events[-1].sequence

    def stored(self, sequence: int) -> None:
        """All events up to this one have been stored."""
        self._stored = sequence

    def _has_beyond(self, after: int) -> bool:
        return bool(self._loose) and self._last > after

    def _beyond(self, after: int) -> list[TurnEvent]:
        """The next events beyond `after`: not all, where many are packed."""
        if self._packed and after < self._packed[-1].last:
            return self._packed[bisect_right(self._packed, after, key=_last)].beyond(after)
        return self._loose[bisect_right(self._loose, after, key=_sequence) :]

    def _pack(self) -> None:
        old, self._loose = self._loose[:_LOOSE], self._loose[_LOOSE:]
        # What is a piece of text, and nothing else; of these, what is next to each other shares sequence minus place.
        runs = groupby(enumerate(old), lambda at: (set(at[1].data) == {"text"}, at[1].kind, at[1].sequence - at[0]))
        for (is_text, kind, _), run in runs:
            events = [event for _, event in run]
            self._packed += [_Deltas(events)] if is_text and kind == DELTA else events
