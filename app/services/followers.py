"""The turns that other processes answer and somebody here listens to: one poll for all of them."""

import threading
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row

from app.repositories import turn_events, turns
from app.services.running_turn import ToldTurn
from app.services.stale import close_stale
from app.services.telling import tell_end, tell_stored
from app.services.ticker import Ticker

INTERVAL = 0.25  # seconds


class Followers:
    """Tells here what is stored there. The poll exists only while somebody follows something.

    A turn is followed to its end, whether or not its readers stay: its end is bounded, and they may come back.
    """

    def __init__(self, engine: Engine, stale_seconds: float) -> None:
        self._engine, self._stale_seconds = engine, stale_seconds
        self._followed: dict[UUID, ToldTurn] = {}
        self._lock = threading.Lock()
        self._ticker = Ticker("followers", INTERVAL, self._tick)

    def follow(self, connection: Connection, user_id: UUID, row: Row[Any]) -> ToldTurn:
        """The turn of `row`, which is being answered somewhere else, from its first event on."""
        with self._lock:
            turn = self._followed.get(row.id)
            if turn is None or turn.narration.over:
                turn = ToldTurn(user_id=user_id, id=row.id, conversation_id=row.conversation_id)
                self._followed[row.id] = turn
        turn_events.WANT.one(connection, {"user_id": user_id, "turn_id": row.id})
        self._ticker.wake()
        return turn

    def _tick(self) -> bool:
        with self._lock:
            followed = list(self._followed.values())
        if not followed:
            return False
        with self._engine.connect() as connection:
            ids = {"user_ids": [turn.user_id for turn in followed], "turn_ids": [turn.id for turn in followed]}
            running = {
                row.id: row
                for row in turn_events.RUNNING.all(connection, {**ids, "stale_seconds": self._stale_seconds})
            }
            tell_stored(connection, followed)
            for turn in followed:
                if turn.id not in running:
                    self._end(connection, turn)
            for row in running.values():  # last, because somebody may hold one of them for a long time
                if row.stale:
                    close_stale(  # the next tick sees what became of it
                        connection,
                        user_id=row.user_id,
                        conversation_id=row.conversation_id,
                        turn_id=row.id,
                        attempt=row.attempt,
                        stale_seconds=self._stale_seconds,
                    )
        return True

    def _end(self, connection: Connection, turn: ToldTurn) -> None:
        parameters = {"user_id": turn.user_id, "turn_id": turn.id, "stale_seconds": self._stale_seconds}
        tell_end(connection, turn, turns.GET.one(connection, parameters))
        with self._lock:
            self._followed.pop(turn.id, None)
