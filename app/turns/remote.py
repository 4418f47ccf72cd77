"""Streams of turns that other processes run: one poll of the database for all of them."""

import threading
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row

from app.enums import TurnStatus
from app.repositories import turn_events, turns
from app.services.ticker import Ticker
from app.turns.replay import replay_end, replay_stored_events
from app.turns.stale import close_stale
from app.turns.stream import TurnStream
from app.turns.subscription import Subscription

INTERVAL = 0.25  # seconds


class RemoteTurnPoller:
    """Polls the events of turns that other processes run, while there are subscriptions.

    A subscription lasts until the end of the turn, even if its readers leave: the end is bounded, and they may resume.
    `engine` is in AUTOCOMMIT.
    """

    def __init__(self, engine: Engine, stale_seconds: float) -> None:
        self._engine, self._stale_seconds = engine, stale_seconds
        self._subscribed: dict[UUID, TurnStream] = {}
        self._lock = threading.Lock()
        self._ticker = Ticker("remote-turns", INTERVAL, self._tick)

    def subscribe(self, connection: Connection, user_id: UUID, row: Row[Any], after: int = 0) -> Subscription:
        """Return the stream of the turn `row` for a reader that has the events up to `after`.

        Ask the turn's process to store the events, from the first one on.
        """
        with self._lock:
            turn = self._subscribed.get(row.id)
            if turn is None or turn.events.closed:
                turn = TurnStream(user_id=user_id, id=row.id, conversation_id=row.conversation_id)
                self._subscribed[row.id] = turn
        turn_events.REQUEST_STORAGE.one(connection, {"user_id": user_id, "turn_id": row.id})
        self._ticker.wake()
        return Subscription(turn, after)

    def _tick(self) -> bool:
        with self._lock:
            streams = list(self._subscribed.values())
        if not streams:
            return False
        with self._engine.connect() as connection:
            ids = {"user_ids": [turn.user_id for turn in streams], "turn_ids": [turn.id for turn in streams]}
            rows = turn_events.READ_RUNNING.all(connection, {**ids, "stale_seconds": self._stale_seconds})
            running = {row.id for row in rows}
            replay_stored_events(connection, streams)
            for turn in streams:
                if turn.id not in running:
                    self._end(connection, turn)
            for row in rows:  # last, because a locked row may delay it
                if row.stale:
                    close_stale(  # the next tick ends the stream
                        connection,
                        user_id=row.user_id,
                        conversation_id=row.conversation_id,
                        turn_id=row.id,
                        attempt=row.attempt,
                        stale_seconds=self._stale_seconds,
                    )
        return True

    def _end(self, connection: Connection, turn: TurnStream) -> None:
        parameters = {"user_id": turn.user_id, "turn_id": turn.id, "stale_seconds": self._stale_seconds}
        row = turns.GET.one(connection, parameters)
        if row is not None and row.status == TurnStatus.RUNNING:
            return  # a new attempt began since; its events continue the stream
        replay_end(connection, turn, row)
        with self._lock:
            self._subscribed.pop(turn.id, None)
