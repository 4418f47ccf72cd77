"""One reader's place in the event stream of a turn."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.turns.event_buffer import Reader, TurnEvent
from app.turns.stream import TurnStream


@dataclass(frozen=True, slots=True)
class Subscription:
    """A reader of `stream` that has the events up to the sequence `after`."""

    stream: TurnStream
    after: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the turn has ended and the reader has its last event."""
        return self.stream.events.closed and self.after >= self.stream.events.last_sequence

    def events(self, ping_interval: float, reader: Reader | None = None) -> Iterator[list[TurnEvent]]:
        """Yield the events after `after`, as `TurnEventBuffer.subscribe` does."""
        return self.stream.events.subscribe(ping_interval, self.after, reader)
