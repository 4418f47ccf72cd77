"""Slots of one process, which bound what one caller does at the same time."""

from collections import Counter
from collections.abc import Callable
from threading import Lock


class Slots:
    """Slots of one process, at most `limit`, and `limit_per_key` for each key. Thread-safe."""

    def __init__(self, limit: int, limit_per_key: int) -> None:
        self._limit, self._limit_per_key = limit, limit_per_key
        self._by_key: Counter[str] = Counter()
        self._total = 0
        self._lock = Lock()

    def take(self, key: str, *, full: Callable[[], Exception], full_for_key: Callable[[], Exception]) -> None:
        """Take a slot; raise the error of `full_for_key` or `full` if there is none."""
        with self._lock:
            problem = full_for_key if self._by_key[key] >= self._limit_per_key else None
            problem = problem or (full if self._total >= self._limit else None)
            if problem is None:
                self._by_key[key] += 1
                self._total += 1
                return
            self._forget(key)
        raise problem()

    def is_full_for(self, key: str) -> bool:
        """Return whether `key` has as many slots as it may."""
        with self._lock:
            return self._by_key.get(key, 0) >= self._limit_per_key

    def release(self, key: str) -> None:
        """Give a slot back."""
        with self._lock:
            self._by_key[key] -= 1
            self._total -= 1
            self._forget(key)

    def _forget(self, key: str) -> None:
        if self._by_key[key] <= 0:
            del self._by_key[key]
