"""Once a second, the heartbeats of all running attempts with the requests for them, and a check of open streams."""

from sqlalchemy import Connection, Engine

from app.database import autocommit_engine
from app.enums import TurnStatus
from app.repositories import turns as sql
from app.services.ticker import Ticker
from app.turns.event_store import TurnEventStore
from app.turns.open_streams import OpenStreams
from app.turns.running import RunningTurns
from app.turns.stream import RunningTurn

INTERVAL = 1.0  # seconds; about the time until a cancel request or the end of a session reaches this process


class Heartbeats:
    """Refreshes the heartbeats of the `running` attempts; stops those that are cancelled or fenced.

    Also stops the open `streams` of sessions and API keys that have ended. Each takes one statement for all of them.

    While the database is unavailable the attempts become stale. `engine` must not share its connection with requests:
    otherwise a pool exhausted by requests that wait for a lock would make healthy turns stale.
    """

    def __init__(
        self, engine: Engine, running: RunningTurns, event_store: TurnEventStore, streams: OpenStreams
    ) -> None:
        self._engine, self._running, self._event_store = autocommit_engine(engine), running, event_store
        self._streams = streams
        self._ticker = Ticker("heartbeats", INTERVAL, self._tick)

    def wake(self) -> None:
        """Start the ticks, after an attempt or a stream has been added."""
        self._ticker.wake()

    def _tick(self) -> bool:
        turns = self._running.all()
        if not turns and not self._streams:
            self._engine.dispose()  # an idle process keeps no connection
            return False
        with self._engine.connect() as connection:
            if turns:
                self._refresh(connection, turns)
            if self._streams:
                self._streams.stop_ended(connection)
        return True

    def _refresh(self, connection: Connection, turns: list[RunningTurn]) -> None:
        parameters = {
            "user_ids": [turn.user_id for turn in turns],
            "attempts": [turn.attempt for turn in turns],
            "turn_ids": [turn.id for turn in turns],
        }
        rows = {row.attempt: row for row in sql.HEARTBEAT.all(connection, parameters)}
        for turn in turns:
            row = rows.get(turn.attempt)
            if row is None:
                turn.stop(TurnStatus.INTERRUPTED, fenced=True)
            elif row.cancel_requested_at is not None:
                turn.stop(TurnStatus.CANCELLED)
            elif row.events_wanted:
                self._event_store.request_storage(turn)
