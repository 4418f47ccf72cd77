"""Counts that end with their windows: for all processes together in a Redis, or while that is away in this one alone.

A window begins with the first thing that is counted in it. What is asked for together is one round trip, whatever it
is; no request waits for Redis longer than twice `LONGEST`, and while it is away none waits at all: a thread of its own
finds out when it is back. What was counted meanwhile stays in the process, and is forgotten with its window.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent
from cachetools import TLRUCache
from gevent import monkey

from app.config import Settings
from app.jobs import JobQueue
from app.logs import redact
from app.metrics.limits import record_counting
from app.services.ticker import Ticker

if TYPE_CHECKING:
    pass

ANSWER_SECONDS = 0.5  # for each of a connection, a place in the pool, and an answer
LONGEST = 1.0  # seconds for all of it, a name that must be looked up too
TRIES = 2  # a process that is held up itself finds its time over, and the answer there
LOOK_AGAIN = 1.0  # seconds between two looks at a Redis that is away
MOST_CONNECTIONS = 32
MOST_LOCAL = 50_000  # windows that a process counts by itself; beyond that, those used longest ago are forgotten

# A key that has no end, by whatever accident, gets one: nobody is refused for ever.
_ADD = """
local told = {}
for i, key in ipairs(KEYS) do
    told[2 * i - 1] = redis.call('INCR', key)
    local left = redis.call('PTTL', key)
    if left < 0 then
        left = tonumber(ARGV[i])
        redis.call('PEXPIRE', key, left)
    end
    told[2 * i] = left
end
return told"""
_GIVE_BACK = """
for _, key in ipairs(KEYS) do
    if tonumber(redis.call('GET', key) or '0') > 0 then redis.call('DECR', key) end
end
return 0"""
_PREFIX = "parley:limits:"

_log = logging.getLogger("parley.limits")


class Count(NamedTuple):
    """So many, this one included, in a window that ends in `left` seconds."""

    value: int
    left: float


class LimitCounters:
    """`url` is of the Redis; if None, `find` is asked for it, in a thread of its own and until it gives one or None.

    Thread-safe, under gevent too; nothing is connected before the first use, so a process may fork before that.
    """

    def __init__(self, url: str | None = None, find: Callable[[], str | None] | None = None) -> None:
        self._find = find
        self._local = _Local()
        self._remote = _Remote(url) if url else None
        self._shared = self._remote is not None
        self._ticker = Ticker("limits", LOOK_AGAIN, self._look)

    @property
    def shared(self) -> bool:
        """Whether the processes count together just now."""
        return self._shared

    def add(self, windows: Sequence[tuple[str, float]]) -> list[Count]:
        """Count one more for each key; its window, if this begins it, lasts so many seconds."""
        if (remote := self._at_hand()) is not None:
            milliseconds = [max(1, round(seconds * 1000)) for _, seconds in windows]
            told = self._ask(remote, _ADD, [key for key, _ in windows], milliseconds)
            if told is not None:
                return [Count(value, left / 1000) for value, left in zip(told[::2], told[1::2], strict=True)]
        return [self._local.add(key, seconds) for key, seconds in windows]

    def give_back(self, keys: Sequence[str]) -> None:
        """Count one less for each key, if its window has not ended."""
        if (remote := self._at_hand()) is None or self._ask(remote, _GIVE_BACK, keys) is None:
            self._local.give_back(keys)

    def close(self) -> None:
        """Let go of all connections."""
        if self._remote is not None:
            self._remote.close()

    def _at_hand(self) -> "_Remote | None":
        if self._shared:
            return self._remote
        if self._remote is not None or self._find is not None:
            self._ticker.wake()
        return None

    def _ask(self, remote: "_Remote", script: str, keys: Sequence[str], arguments: Sequence[int] = ()) -> Any:
        """What the script returns; None where Redis is away, which it then counts as."""
        why = ""
        for _ in range(TRIES):
            if not self._shared:  # another request has found out meanwhile
                return None
            try:
                return remote.run(script, keys, arguments)
            except Exception as error:  # of the client, the socket, or what the server refuses
                why = redact(f"{type(error).__name__}: {error}")
        if self._shared:
            self._shared = False
            record_counting(shared=False)
            _log.warning("limits are counted by each process alone, because Redis does not count: %s", why)
        self._ticker.wake()
        return None

    def _look(self) -> bool:
        """Whether to look again."""
        if self._remote is None:
            try:
                url = self._find() if self._find is not None else None
            except Exception as error:
                _log.warning("no Redis to count limits in: %s", redact(f"{type(error).__name__}: {error}"))
                return True
            if url is None:
                self._find = None
                return False
            self._remote = _Remote(url)
        try:
            self._remote.run(_ADD, ["look"], [1])  # it must be able to write
        except Exception as error:
            _log.debug("Redis is still away: %s", redact(f"{type(error).__name__}: {error}"))
            return True
        self._shared = True
        record_counting(shared=True)
        _log.info("limits are counted by all processes together")
        return False


def limit_counters(settings: Settings, queue: JobQueue) -> LimitCounters:
    """Counters in RATE_LIMIT_URL, else where jobs go, if that is a Redis. An embedded one is known once it runs."""
    given = settings.limits.url or settings.jobs.broker_url
    if given is None:
        return LimitCounters(find=lambda: queue.broker() if queue.broker else None)
    url = given.get_secret_value()
    return LimitCounters(url if url.startswith("redis") else None)


class _Remote:
    """A Redis. The client's own way to a command costs twice as much: 112 against 72 microseconds of CPU."""

    def __init__(self, url: str) -> None:
        from redis import BlockingConnectionPool  # not cheap, and only needed where there is one
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            url,
            max_connections=MOST_CONNECTIONS,
            timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[int]) -> Any:
        """Raises whatever goes wrong, within `LONGEST` seconds under gevent; elsewhere each step has its own bound."""
        if not monkey.is_module_patched("socket"):
            return self._run(script, keys, arguments)
        with gevent.Timeout(LONGEST, TimeoutError(f"no answer within {LONGEST:g} seconds")):
            return self._run(script, keys, arguments)

    def close(self) -> None:
        self._pool.disconnect()

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[int]) -> Any:
        connection = self._pool.get_connection()  # type: ignore[no-untyped-call]  # the client's own gap, as below
        try:
            # The whole script each time: it is short, and a server that was restarted does not know its hash.
            named = [f"{_PREFIX}{key}" for key in keys]
            packed = connection.pack_command("EVAL", script, len(keys), *named, *arguments)
            connection.send_packed_command(packed, check_health=False)
            return connection.read_response()
        except BaseException:
            connection.disconnect()  # an answer may still be under way
            raise
        finally:
            self._pool.release(connection)  # type: ignore[no-untyped-call]


@dataclass(slots=True)
class _Window:
    value: int
    until: float


class _Local:
    """The same in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: TLRUCache[str, _Window] = TLRUCache(
            MOST_LOCAL, ttu=lambda _, window, __: window.until, timer=time.monotonic
        )

    def add(self, key: str, seconds: float) -> Count:
        now = time.monotonic()
        with self._lock:
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = _Window(0, now + seconds)
            window.value += 1
            return Count(window.value, max(0.0, window.until - now))

    def give_back(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                window = self._windows.get(key)
                if window is not None and window.value > 0:
                    window.value -= 1
