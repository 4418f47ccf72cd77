"""Storage of stream events in small batches, by one statement for all turns of this process that need it.

The events of streamed turns are stored from the first one on. Those of other turns are stored once a reader subscribes;
they can be rebuilt from the turn and its answer. The last batch of a turn is stored by the statement that ends it.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine

from app.repositories import turn_events as sql
from app.services.ticker import Ticker
from app.turns.event_buffer import TurnEvent
from app.turns.running import RunningTurns
from app.turns.stream import RunningTurn

INTERVAL = 0.25  # seconds; the delay of readers on other processes is at most this plus their poll interval

MAX_BATCHES = 8  # of one turn in one statement; the rest is stored by the next tick, or with the turn's end


def as_stored(events: list[TurnEvent]) -> list[list[Any]]:
    """Return the events as `turn_events.events` holds them."""
    return [[event.sequence, event.kind, event.data] for event in events]


def as_json(batches: Iterable[list[TurnEvent]]) -> str | None:
    """Return the events of all batches as one JSON list in the stored form; None without events."""
    parts = [orjson.dumps(as_stored(events))[1:-1] for events in batches]
    return (b"[" + b",".join(parts) + b"]").decode() if parts else None


class TurnEventStore:
    """Stores the events of the `running` turns that need it. `engine` is in AUTOCOMMIT."""

    def __init__(self, engine: Engine, running: RunningTurns) -> None:
        self._engine, self._running = engine, running
        self._ticker = Ticker("events", INTERVAL, self._tick)

    def request_storage(self, turn: RunningTurn) -> None:
        """Store the events of `turn`, from the first one on."""
        if not turn.stores_events:
            turn.stores_events = True
            self._ticker.wake()

    def _tick(self) -> bool:
        turns = [turn for turn in self._running.all() if turn.stores_events]
        batches = [(turn, events) for turn in turns for events in islice(turn.events.pending(), MAX_BATCHES)]
        if batches:
            payload = orjson.dumps([_batch(turn, events) for turn, events in batches]).decode()
            with self._engine.connect() as connection:
                sql.APPEND.all(connection, {"batches": payload})
            for turn, events in batches:
                turn.events.mark_stored(events[-1].sequence)
        return bool(turns)


def _batch(turn: RunningTurn, events: list[TurnEvent]) -> dict[str, UUID | int | list[list[Any]]]:
    return {
        "user_id": turn.user_id,
        "turn_id": turn.id,
        "attempt": turn.attempt,
        "sequence": events[-1].sequence,
        "events": as_stored(events),
    }
