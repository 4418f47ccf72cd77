"""One tick a second for all the running turns of a process: says that they live, and hears that they should not."""

import threading
from collections.abc import Callable
from uuid import UUID

from sqlalchemy import Engine

from app.models.turn import TurnStatus
from app.repositories import turns as sql
from app.services.running_turn import RunningTurn
from app.services.ticker import Ticker

INTERVAL = 1.0  # seconds; a cancel is seen on any worker within about this


class Heartbeats:
    """Keeps the running turns of this process alive in the database.

    If the database stays away the turns go stale, which is then the truth. `engine` is nobody else's: were they to wait
    for a connection like everybody, a crowd of requests that wait for a lock would end the turns that others read.
    """

    def __init__(self, engine: Engine, want: Callable[[RunningTurn], None]) -> None:
        """`want` is called with each turn that somebody has begun to follow in another process."""
        self._engine, self._want = engine.execution_options(isolation_level="AUTOCOMMIT"), want
        self._running: dict[UUID, RunningTurn] = {}
        self._lock = threading.Lock()
        self._ticker = Ticker("heartbeats", INTERVAL, self._tick)

    def __len__(self) -> int:
        return len(self._running)

    def add(self, turn: RunningTurn) -> None:
        """Start keeping `turn` alive."""
        with self._lock:
            self._running[turn.attempt] = turn
        self._ticker.wake()

    def remove(self, turn: RunningTurn) -> None:
        """Stop keeping `turn` alive; it has ended."""
        with self._lock:
            self._running.pop(turn.attempt, None)

    def all(self) -> list[RunningTurn]:
        """The running turns of this process."""
        with self._lock:
            return list(self._running.values())

    def find(self, turn_id: UUID) -> RunningTurn | None:
        """The running attempt of turn `turn_id`, if it is this process that answers it."""
        with self._lock:
            return next((turn for turn in self._running.values() if turn.id == turn_id), None)

    def _tick(self) -> bool:
        turns = self.all()
        if not turns:
            self._engine.dispose()  # nothing is kept open for nobody
            return False
        with self._engine.connect() as connection:
            alive = {
                row.attempt: row
                for row in sql.HEARTBEAT.all(
                    connection,
                    {
                        "user_ids": [turn.user_id for turn in turns],
                        "attempts": [turn.attempt for turn in turns],
                        "turn_ids": [turn.id for turn in turns],
                    },
                )
            }
        for turn in turns:
            heard = alive.get(turn.attempt)
            if heard is None:
                turn.stop(TurnStatus.INTERRUPTED, fenced=True)
            elif heard.cancel_requested_at is not None:
                turn.stop(TurnStatus.CANCELLED)
            elif heard.events_wanted and not turn.wanted:
                self._want(turn)
        return True
