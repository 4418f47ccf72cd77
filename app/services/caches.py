"""Stale-while-revalidate caches of one process.

    fresh     returned
    stale     returned, while one thread loads the new value
    expired   a caller waits for the new value for a limited time, then gets the old value or the error

A failed load is not repeated at once.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from cachetools import TTLCache

from app.errors import ParleyError, Unavailable
from app.metrics.caches import CacheName, CacheResult, record_cache_load, record_cache_read

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_log = logging.getLogger("parley.caches")


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Times of a cache in seconds. A value is fresh for `fresh_for` after its load, and stale until `stale_for`.

    A caller waits `max_wait` for an expired value. A failed load is repeated after `retry_after`. A value is dropped
    after `max_age`, also without a new one.
    """

    fresh_for: float
    stale_for: float
    max_wait: float
    retry_after: float
    max_age: float = math.inf


@dataclass(slots=True)
class _Entry(Generic[V]):
    """The last value with the time of its load (None without one), and the time and error of the last try."""

    tried_at: float
    value: V | None = None
    loaded_at: float | None = None
    error: Exception | None = None


@dataclass(slots=True)
class _Load(Generic[V]):
    """A load in progress. If `invalidated`, its result may be older than the change, so it is not kept."""

    finished: threading.Event = field(default_factory=threading.Event)
    entry: _Entry[V] | None = None
    invalidated: bool = False


class Cache(Generic[K, V]):
    """At most `size` values by key, each from `load`. Thread-safe, under gevent too.

    A thread runs only during a load. The key of a user's value must contain the user's id.
    """

    def __init__(
        self,
        name: CacheName,
        load: Callable[[K], V],
        policy: CachePolicy,
        *,
        size: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._load, self._policy, self._clock = name, load, policy, clock
        self._entries: TTLCache[K, _Entry[V]] = TTLCache(size, policy.max_age, clock)
        self._loads: dict[K, _Load[V]] = {}
        self._lock = threading.Lock()

    def get(self, key: K, max_wait: float | None = None) -> V:
        """Return the value of `key`, after waiting at most `max_wait` seconds, by default those of the policy.

        Without any value, raises the error of the load, or `Unavailable` if it takes too long.
        """
        with self._lock:
            entry, now = self._entries.get(key), self._clock()
            if entry is not None and not self._is_due(entry, now):
                return self._result(entry, "hit" if entry.error is None else "stale")
            load = self._start(key)
            if entry is not None and entry.loaded_at is not None and now - entry.loaded_at < self._policy.stale_for:
                return self._result(entry, "stale")
        load.finished.wait(self._policy.max_wait if max_wait is None else max_wait)
        latest = load.entry or entry
        if latest is None:
            raise Unavailable("This could not be loaded in time; try again shortly.", retry_after=1)
        return self._result(latest, "miss" if latest is load.entry and latest.error is None else "stale")

    def last(self, key: K) -> V | None:
        """Return the last value, of any age, or None. Neither waits nor loads."""
        with self._lock:
            entry = self._entries.get(key)
        return entry.value if entry is not None else None

    def prefetch(self, key: K) -> None:
        """Start the load of `key` if it is due, so that several keys load at the same time."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or self._is_due(entry, self._clock()):
                self._start(key)

    def invalidate(self, key: K) -> None:
        """Expire the value after a change: later callers wait for a load that starts after this call."""
        with self._lock:
            if key in self._loads:
                self._loads.pop(key).invalidated = True
            entry = self._entries.get(key)
            if entry is not None and entry.loaded_at is not None:
                self._entries[key] = _Entry(-math.inf, entry.value, -math.inf)  # returned only if the load fails

    def _is_due(self, entry: _Entry[V], now: float) -> bool:
        return now - entry.tried_at >= (self._policy.fresh_for if entry.error is None else self._policy.retry_after)

    def _result(self, entry: _Entry[V], result: CacheResult) -> V:
        record_cache_read(self._name, "miss" if entry.loaded_at is None else result)
        if entry.loaded_at is None:
            assert entry.error is not None  # noqa: S101  # an entry has a value or an error
            raise entry.error
        return cast(V, entry.value)

    def _start(self, key: K) -> _Load[V]:
        """Return the load in progress, or start one. The lock must be held."""
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = _Load()
            try:
                threading.Thread(target=self._run, args=(key, load), name=f"cache {self._name}", daemon=True).start()
            except RuntimeError:  # the system allows no more threads
                self._loads.pop(key)
                load.finished.set()
        return load

    def _run(self, key: K, load: _Load[V]) -> None:
        try:
            value, error = self._load(key), None
        except Exception as caught:
            value, error = None, caught
            expected = isinstance(caught, ParleyError)
            reason = caught.detail if isinstance(caught, ParleyError) else type(caught).__name__
            _log.warning("%s could not be loaded: %s", self._name, reason, exc_info=None if expected else caught)
        record_cache_load(self._name, "ok" if error is None else "error")
        with self._lock:
            now, before = self._clock(), self._entries.get(key)
            if error is None:
                load.entry = _Entry(now, value, now)
            else:
                load.entry = _Entry(now, before.value, before.loaded_at, error) if before else _Entry(now, error=error)
            if not load.invalidated:
                self._entries[key] = load.entry
                del self._loads[key]
        load.finished.set()
