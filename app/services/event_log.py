"""What the followed turns of this process say is stored in small batches, by one statement for all of them.

Only while they run: the last batch of a turn goes into the statement that ends it. A turn that nobody follows stores
nothing; its events can be told from the turn and its messages.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine

from app.repositories import turn_events as sql
from app.services.narration import TurnEvent
from app.services.running_turn import RunningTurn
from app.services.ticker import Ticker

INTERVAL = 0.25  # seconds; how far behind a reader on another process is, at most, beside its own interval

BATCHES = 8  # of one turn in one statement; who says more than that is stored a tick later, or with its end


def as_stored(events: list[TurnEvent]) -> list[list[Any]]:
    """Events as `turn_events.events` holds them."""
    return [[event.sequence, event.kind, event.data] for event in events]


def as_json(batches: Iterable[list[TurnEvent]]) -> str | None:
    """The same of all these batches, as one JSON list; None if there are no events."""
    parts = [orjson.dumps(as_stored(events))[1:-1] for events in batches]
    return (b"[" + b",".join(parts) + b"]").decode() if parts else None


class EventLog:
    """Stores what is said by those of the `running` turns that somebody follows."""

    def __init__(self, engine: Engine, running: Callable[[], list[RunningTurn]]) -> None:
        self._engine, self._running = engine, running
        self._ticker = Ticker("events", INTERVAL, self._tick)

    def want(self, turn: RunningTurn) -> None:
        """Somebody follows `turn`: store what it says, from its first event on."""
        turn.wanted = True
        self._ticker.wake()

    def _tick(self) -> bool:
        wanted = [turn for turn in self._running() if turn.wanted]
        news = [(turn, events) for turn in wanted for events in islice(turn.narration.unstored(), BATCHES)]
        if news:
            with self._engine.connect() as connection:
                sql.APPEND.all(connection, {"batches": orjson.dumps([_batch(*each) for each in news]).decode()})
            for turn, events in news:
                turn.narration.stored(events[-1].sequence)
        return bool(wanted)


def _batch(turn: RunningTurn, events: list[TurnEvent]) -> dict[str, UUID | int | list[list[Any]]]:
    return {
        "user_id": turn.user_id,
        "turn_id": turn.id,
        "attempt": turn.attempt,
        "sequence": events[-1].sequence,
        "events": as_stored(events),
    }
