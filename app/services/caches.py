"""What one process remembers of what was looked up, so that not everybody looks again. Nothing may rely on it.

    fresh         told at once
    a while old   told at once, and looked up meanwhile, by one thread for all who ask
    older         waited for, but only so long; then what was known before, however old, or why there is nothing

What cannot be looked up is not tried again at once.
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
class Ages:
    """In seconds: how long a value is fresh, how long it is told without waiting for the next one, how long that is
    waited for, how long a failed look-up is not tried again, and after how long a value is forgotten whatever happens.
    """

    fresh: float
    usable: float
    wait: float
    retry: float
    kept: float = math.inf


@dataclass(slots=True)
class _Known(Generic[V]):
    """The last value and when it was looked up, None if it never could be; the last try, and how that failed."""

    tried: float
    value: V | None = None
    read: float | None = None
    error: Exception | None = None


@dataclass(slots=True)
class _Load(Generic[V]):
    """A look-up under way. `forgotten` meanwhile: what it finds may be older than what made us forget."""

    done: threading.Event = field(default_factory=threading.Event)
    known: _Known[V] | None = None
    forgotten: bool = False


class Cache(Generic[K, V]):
    """At most `size` values by their keys, each from `load`. Thread-safe, under gevent too; a thread exists only while
    something is looked up. A key must hold whose value it is, where that is somebody's.
    """

    def __init__(
        self,
        name: CacheName,
        load: Callable[[K], V],
        ages: Ages,
        *,
        size: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._load, self._ages, self._clock = name, load, ages, clock
        self._known: TTLCache[K, _Known[V]] = TTLCache(size, ages.kept, clock)
        self._loads: dict[K, _Load[V]] = {}
        self._lock = threading.Lock()

    def get(self, key: K, wait: float | None = None) -> V:
        """The value of `key`, waited for at most `wait` seconds if that is given. Where nothing is known, raises what
        the look-up raised, or `Unavailable` if it takes too long."""
        with self._lock:
            known, now = self._known.get(key), self._clock()
            if known is not None and not self._due(known, now):
                return self._tell(known, "hit" if known.error is None else "stale")
            load = self._begin(key)
            if known is not None and known.read is not None and now - known.read < self._ages.usable:
                return self._tell(known, "stale")
        load.done.wait(self._ages.wait if wait is None else wait)
        found = load.known or known
        if found is None:
            raise Unavailable("This could not be looked up in time; try again shortly.", retry_after=1)
        return self._tell(found, "miss" if found is load.known and found.error is None else "stale")

    def last(self, key: K) -> V | None:
        """What is known, however old; None if nothing is. Neither waits nor looks up."""
        with self._lock:
            known = self._known.get(key)
        return known.value if known is not None else None

    def begin(self, key: K) -> None:
        """Look `key` up if it is due, for whoever asks next: so that several can be looked up side by side."""
        with self._lock:
            known = self._known.get(key)
            if known is None or self._due(known, self._clock()):
                self._begin(key)

    def forget(self, key: K) -> None:
        """The value has changed: whoever asks from now on waits for what is looked up from now on."""
        with self._lock:
            if key in self._loads:
                self._loads.pop(key).forgotten = True
            known = self._known.get(key)
            if known is not None and known.read is not None:
                self._known[key] = _Known(-math.inf, known.value, -math.inf)  # better than nothing, and no more

    def _due(self, known: _Known[V], now: float) -> bool:
        return now - known.tried >= (self._ages.fresh if known.error is None else self._ages.retry)

    def _tell(self, known: _Known[V], result: CacheResult) -> V:
        record_cache_read(self._name, "miss" if known.read is None else result)
        if known.read is None:
            assert known.error is not None  # noqa: S101  # one of the two is there
            raise known.error
        return cast(V, known.value)

    def _begin(self, key: K) -> _Load[V]:
        """The look-up that is under way, or a new one. Under the lock."""
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = _Load()
            try:
                threading.Thread(target=self._run, args=(key, load), name=f"cache {self._name}", daemon=True).start()
            except RuntimeError:  # the machine has no more threads
                self._loads.pop(key)
                load.done.set()
        return load

    def _run(self, key: K, load: _Load[V]) -> None:
        try:
            value, error = self._load(key), None
        except Exception as caught:
            value, error = None, caught
            foreseen = isinstance(caught, ParleyError)
            said = caught.detail if isinstance(caught, ParleyError) else type(caught).__name__
            _log.warning("%s could not be looked up: %s", self._name, said, exc_info=None if foreseen else caught)
        record_cache_load(self._name, "ok" if error is None else "error")
        with self._lock:
            now, before = self._clock(), self._known.get(key)
            if error is None:
                load.known = _Known(now, value, now)
            else:
                load.known = _Known(now, before.value, before.read, error) if before else _Known(now, error=error)
            if not load.forgotten:
                self._known[key] = load.known
                del self._loads[key]
        load.done.set()
