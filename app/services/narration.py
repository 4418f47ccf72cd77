"""What a turn says, event by event: one writer, readers who come and go, and what is still to be stored."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TurnEvent:
    """One event of the stream. `sequence` grows by one, and by more where another attempt or process goes on."""

    sequence: int
    kind: str
    data: dict[str, Any]


class Narration:
    """The events of one turn since `after`, the sequence of the last event before. Thread-safe."""

    def __init__(self, after: int = 0) -> None:
        self._events: list[TurnEvent] = []
        self._last = after
        self._over = False
        self._stored = 0  # how many of the events the database has
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
        """Append an event, the next in number unless `sequence` says otherwise, and wake the readers."""
        with self._changed:
            self._last = self._last + 1 if sequence is None else sequence
            self._events.append(TurnEvent(self._last, kind, data))
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

    def follow(self, silence: float, after: int = 0) -> Iterator[TurnEvent | None]:
        """Every event beyond `after`, to the last; None after each `silence` seconds without one."""
        seen = 0
        while True:
            with self._changed:
                news = self._changed.wait_for(lambda: len(self._events) > seen or self._over, timeout=silence)  # noqa: B023  # used at once
                events = self._events[seen:]
                over = self._over
            if not news:
                yield None
            yield from (event for event in events if event.sequence > after)
            seen += len(events)
            if over:
                return

    def unstored(self) -> list[TurnEvent]:
        """What has been said and not stored, in order."""
        with self._changed:
            return self._events[self._stored :]

    def stored(self, count: int) -> None:
        """The first `count` of the unstored events have been stored."""
        with self._changed:
            self._stored += count
