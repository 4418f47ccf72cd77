"""Registry of the attempts that this process runs."""

import threading
from uuid import UUID

from app.turns.stream import RunningTurn


class RunningTurns:
    """The attempts that this process runs. Thread-safe."""

    def __init__(self) -> None:
        self._by_attempt: dict[UUID, RunningTurn] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._by_attempt)

    def add(self, turn: RunningTurn) -> None:
        """Add an attempt that has begun."""
        with self._lock:
            self._by_attempt[turn.attempt] = turn

    def remove(self, turn: RunningTurn) -> None:
        """Remove an attempt that has ended."""
        with self._lock:
            self._by_attempt.pop(turn.attempt, None)

    def all(self) -> list[RunningTurn]:
        """Return a snapshot of the attempts."""
        with self._lock:
            return list(self._by_attempt.values())

    def find(self, turn_id: UUID) -> RunningTurn | None:
        """Return the running attempt at the turn, if this process runs it."""
        with self._lock:
            return next((turn for turn in self._by_attempt.values() if turn.id == turn_id), None)
