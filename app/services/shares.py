"""Amounts of one process, such as bytes of memory, of which each user may hold a part."""

from collections import Counter
from threading import Lock
from uuid import UUID


class Shares:
    """An amount of at most `limit`, and `limit_per_user` for each user: one user cannot take all. Thread-safe."""

    def __init__(self, limit: int, limit_per_user: int) -> None:
        self._free, self._limit_per_user = limit, limit_per_user
        self._by_user: Counter[UUID] = Counter()
        self._lock = Lock()

    def take(self, user_id: UUID, amount: int) -> bool:
        """Take an amount; return False, with nothing taken, if the user or all users together would hold too much."""
        with self._lock:
            held = self._by_user.get(user_id, 0) + amount
            if amount > self._free or held > self._limit_per_user:
                return False
            self._free -= amount
            self._by_user[user_id] = held
            return True

    def release(self, user_id: UUID, amount: int) -> None:
        """Give back an amount that was taken."""
        with self._lock:
            self._free += amount
            self._by_user[user_id] -= amount
            if self._by_user[user_id] <= 0:
                del self._by_user[user_id]
