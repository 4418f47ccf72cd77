"""One tick a second for all the running turns of a process: says that they live, and hears that they should not."""

import logging
import threading
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.models.turn import TurnStatus
from app.repositories import turns as sql
from app.services.running_turn import RunningTurn

INTERVAL = 1.0  # seconds; a cancel is seen on any worker within about this

_log = logging.getLogger("parley.turns")


class Heartbeats:
    """Keeps the running turns of this process alive in the database. The thread exists only while there are any."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: dict[UUID, RunningTurn] = {}
        self._lock = threading.Lock()
        self._ticking = False
        self._wake = threading.Event()

    def __len__(self) -> int:
        return len(self._running)

    def add(self, turn: RunningTurn) -> None:
        """Start keeping `turn` alive."""
        with self._lock:
            self._running[turn.attempt] = turn
            if not self._ticking:
                self._ticking = True
                threading.Thread(target=self._tick, name="heartbeats", daemon=True).start()

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

    def _tick(self) -> None:
        while True:
            self._wake.wait(INTERVAL)
            with self._lock:
                turns = list(self._running.values())
                if not turns:
                    self._ticking = False
                    return
            try:
                self._beat(turns)
            except SQLAlchemyError as error:
                # The next tick tries again; if the database stays away, the turns go stale, which is then the truth.
                _log.warning("heartbeat missed: %s", type(error).__name__)
            except Exception:  # were this thread to end, each later turn of the process would go stale
                _log.exception("heartbeat missed")

    def _beat(self, turns: list[RunningTurn]) -> None:
        with self._engine.connect() as connection:
            alive = {
                row.attempt: row.cancel_requested_at
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
            if turn.attempt not in alive:
                turn.stop(TurnStatus.INTERRUPTED, fenced=True)
            elif alive[turn.attempt] is not None:
                turn.stop(TurnStatus.CANCELLED)
