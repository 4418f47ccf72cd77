"""Counters of fixed windows: shared by all processes in Redis, or in this process alone while Redis is unavailable.

A window begins with the first count in it. Each call is one round trip. No request waits for Redis longer than twice
`CALL_SECONDS`; while Redis is unavailable none waits, and a background thread checks when it is back. Counts in the
memory of the process stay there until their windows end.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import gevent
from cachetools import TLRUCache
from gevent import monkey

from app.config import Settings
from app.jobs import JobQueue
from app.logs import redact
from app.metrics.limits import record_counting
from app.services.ticker import Ticker

if TYPE_CHECKING:
    from redis.commands.core import Script

STEP_SECONDS = 0.5  # for each of: a connection, a place in the pool, a reply
CALL_SECONDS = 1.0  # for a complete call, a name look-up included
TRIES = 2  # if this process was stalled, the first try times out although Redis has replied
RETRY_SECONDS = 1.0  # between two checks of an unavailable Redis
MAX_CONNECTIONS = 32
MAX_LOCAL_WINDOWS = 50_000  # above it, the windows that were used longest ago are dropped

# A key without an expiry, from any cause, gets one: otherwise it would reject requests forever.
_ADD = """
local reply = {}
for i, key in ipairs(KEYS) do
    reply[2 * i - 1] = redis.call('INCR', key)
    local left = redis.call('PTTL', key)
    if left < 0 then
        left = tonumber(ARGV[i])
        redis.call('PEXPIRE', key, left)
    end
    reply[2 * i] = left
end
return reply"""
_GIVE_BACK = """
for _, key in ipairs(KEYS) do
    if tonumber(redis.call('GET', key) or '0') > 0 then redis.call('DECR', key) end
end
return 0"""
_READ = """
local reply = {}
for i, key in ipairs(KEYS) do reply[i] = tonumber(redis.call('GET', key) or '0') end
return reply"""
_CLEAR = """
for _, key in ipairs(KEYS) do redis.call('DEL', key) end
return 0"""
_PREFIX = "parley:limits:"

_log = logging.getLogger("parley.limits")

T = TypeVar("T")


class Count(NamedTuple):
    """A counter's value, the last call included; its window ends in `seconds_left`."""

    value: int
    seconds_left: float


class LimitCounters:
    """Counters by key. Thread-safe, under gevent too; connects at first use, so a process may fork before that.

    `url` is the URL of Redis. Without it, a background thread calls `find_url` until it returns a URL or None for none.
    """

    def __init__(self, url: str | None = None, find_url: Callable[[], str | None] | None = None) -> None:
        self._find_url = find_url
        self._local = _LocalCounters()
        self._redis = _RedisCounters(url) if url else None
        self._shared = self._redis is not None
        self._ticker = Ticker("limits", RETRY_SECONDS, self._check)

    @property
    def shared(self) -> bool:
        """Whether the counts are in Redis now."""
        return self._shared

    def add(self, windows: Sequence[tuple[str, float]]) -> list[Count]:
        """Add one to each key, and return the counts. Each item is a key and the length of its window in seconds."""
        counts = self._call(lambda counters: counters.add(windows))
        return counts if counts is not None else self._local.add(windows)

    def read(self, keys: Sequence[str]) -> list[int]:
        """Return the count of each key, 0 for one without a window."""
        counts = self._call(lambda counters: counters.read(keys))
        return counts if counts is not None else self._local.read(keys)

    def give_back(self, keys: Sequence[str]) -> None:
        """Subtract one from each key whose window has not ended."""
        if self._call(lambda counters: counters.give_back(keys)) is None:
            self._local.give_back(keys)

    def clear(self, keys: Sequence[str]) -> None:
        """End the window of each key."""
        self._call(lambda counters: counters.clear(keys))
        self._local.clear(keys)  # too: there may be counts from a time without Redis

    def close(self) -> None:
        """Close all connections."""
        if self._redis is not None:
            self._redis.close()

    def _call(self, command: Callable[["_RedisCounters"], T]) -> T | None:
        """Return the result of `command`, or None without Redis: after a failure it counts as unavailable."""
        if not self._shared or self._redis is None:
            if self._redis is not None or self._find_url is not None:
                self._ticker.wake()
            return None
        reason = ""
        for _ in range(TRIES):
            if not self._shared:  # another request failed first
                return None
            try:
                return command(self._redis)
            except Exception as error:  # of the client, of the socket, or a rejection by the server
                reason = redact(f"{type(error).__name__}: {error}")
        if self._shared:
            self._shared = False
            record_counting(shared=False)
            _log.warning("Redis is unavailable, so each process counts limits in its own memory: %s", reason)
        self._ticker.wake()
        return None

    def _check(self) -> bool:
        """Use Redis again if it can be written to. Returns whether to check again."""
        if self._redis is None:
            try:
                url = self._find_url() if self._find_url is not None else None
            except Exception as error:
                _log.warning("no Redis for limits yet: %s", redact(f"{type(error).__name__}: {error}"))
                return True
            if url is None:
                self._find_url = None
                return False
            self._redis = _RedisCounters(url)
        try:
            self._redis.add([("check", 0.001)])
        except Exception as error:
            _log.debug("Redis is still unavailable: %s", redact(f"{type(error).__name__}: {error}"))
            return True
        self._shared = True
        record_counting(shared=True)
        _log.info("limits are counted in Redis, by all processes together")
        return False


def limit_counters(settings: Settings, queue: JobQueue) -> LimitCounters:
    """Return counters in RATE_LIMIT_URL, else in the job broker if it is a Redis, the embedded one included."""
    secret = settings.limits.url or settings.jobs.broker_url
    if secret is None:
        return LimitCounters(find_url=lambda: queue.broker() if queue.broker else None)
    url = secret.get_secret_value()
    return LimitCounters(url if url.startswith("redis") else None)


class _RedisCounters:
    def __init__(self, url: str) -> None:
        from redis import BlockingConnectionPool, Redis  # imported only if used, because it is slow
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=STEP_SECONDS,
            socket_timeout=STEP_SECONDS,
            socket_connect_timeout=STEP_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        client = Redis(connection_pool=self._pool)
        self._add: Script = client.register_script(_ADD)
        self._give_back: Script = client.register_script(_GIVE_BACK)
        self._read: Script = client.register_script(_READ)
        self._clear: Script = client.register_script(_CLEAR)

    def add(self, windows: Sequence[tuple[str, float]]) -> list[Count]:
        milliseconds = [max(1, round(seconds * 1000)) for _, seconds in windows]
        reply = self._run(self._add, [key for key, _ in windows], milliseconds)
        return [Count(value, left / 1000) for value, left in zip(reply[::2], reply[1::2], strict=True)]

    def read(self, keys: Sequence[str]) -> list[int]:
        return self._run(self._read, keys)

    def give_back(self, keys: Sequence[str]) -> bool:
        self._run(self._give_back, keys)
        return True

    def clear(self, keys: Sequence[str]) -> None:
        self._run(self._clear, keys)

    def close(self) -> None:
        self._pool.disconnect()

    def _run(self, script: "Script", keys: Sequence[str], arguments: Sequence[int] = ()) -> list[int]:
        """Run a script, under gevent within CALL_SECONDS; in threads each step has its own timeout."""
        names = [f"{_PREFIX}{key}" for key in keys]
        if not monkey.is_module_patched("socket"):
            return script(names, arguments)  # type: ignore[no-any-return]  # as Redis replies
        with gevent.Timeout(CALL_SECONDS, TimeoutError(f"no reply within {CALL_SECONDS:g} seconds")):
            return script(names, arguments)  # type: ignore[no-any-return]


@dataclass(slots=True)
class _Window:
    value: int
    until: float


class _LocalCounters:
    """Counters in the memory of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: TLRUCache[str, _Window] = TLRUCache(
            MAX_LOCAL_WINDOWS, ttu=lambda _, window, __: window.until, timer=time.monotonic
        )

    def add(self, windows: Sequence[tuple[str, float]]) -> list[Count]:
        return [self._add(key, seconds) for key, seconds in windows]

    def read(self, keys: Sequence[str]) -> list[int]:
        with self._lock:
            windows = [self._windows.get(key) for key in keys]
        return [window.value if window is not None else 0 for window in windows]

    def give_back(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                window = self._windows.get(key)
                if window is not None and window.value > 0:
                    window.value -= 1

    def clear(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._windows.pop(key, None)

    def _add(self, key: str, seconds: float) -> Count:
        now = time.monotonic()
        with self._lock:
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = _Window(0, now + seconds)
            window.value += 1
            return Count(window.value, max(0.0, window.until - now))
