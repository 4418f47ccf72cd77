"""Throttling of the archival and its undo while chats or maintenance need the database.

A batch waits for at most MAX_WAIT seconds. Then the next small batch runs, so that the backlog always shrinks.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from app.container import current_settings
from app.metrics.pool_waiters import requests_waiting
from app.repositories.statement import Statement
from ops.archive.latency import LatencySource, choose_latency_source

SAMPLE_INTERVAL = 1.0  # seconds
PAUSE_FACTOR = 2.0  # of a batch's duration: the pause after it without load
MAINTENANCE_PAUSE = 2.0  # seconds between batches while a table is vacuumed, analyzed or indexed
MAX_WAIT = 30.0  # seconds to wait for overload to end
MAX_CONNECTION_SHARE = 0.9

TARGET_SECONDS = 0.2  # per batch
MIN_MESSAGES, MAX_MESSAGES = 100, 4_000  # per batch

# VACUUM, ANALYZE and CREATE INDEX CONCURRENTLY hold this lock while they work. Every role can read pg_locks, but
# not the progress views.
_PRESSURE = Statement(
    "archive.pressure",
    """
SELECT (SELECT string_agg(DISTINCT owner.relname, ', ') FROM pg_locks
          JOIN pg_class AS owner ON pg_locks.relation IN (owner.oid, owner.reltoastrelid)
         WHERE pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND pg_locks.mode = 'ShareUpdateExclusiveLock' AND pg_locks.granted AND pg_locks.relation <> 0
           AND owner.oid IN ('messages'::regclass, 'conversations'::regclass, 'conversation_archives'::regclass)
       ) AS maintained,
       (SELECT sum(numbackends) FROM pg_stat_database) / current_setting('max_connections')::float8 AS used""",
)


class Throttle:
    """Batch size and pauses, adapted to the load that its own connection measures.

    `slow_ms` is the allowed 95th percentile of the chats' statements, `pace` the messages per second beside chats.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        home: Path,
        slow_ms: float,
        pace: int,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        latency: LatencySource | None = None,
    ) -> None:
        self._connection, self._home, self._slow_ms, self._pace = connection, home, slow_ms, pace
        self._sleep, self._clock = sleep, clock
        self._latency = latency or choose_latency_source(connection)
        self._sampled_at = -math.inf
        self.messages = 500  # of the next batch
        self.overload: str | None = None  # reason to wait
        self.maintenance: str | None = None  # reason to slow down
        self.last_pause_reason: str | None = None

    @property
    def reason(self) -> str | None:
        """Why it pauses, as a sentence, or None."""
        return self.overload or self.maintenance

    @property
    def note(self) -> str:
        """Text for the progress bar: why the run is slow, or empty."""
        return self.reason or ("" if self._latency.chats_idle else f"at most {self._pace:,} messages/s beside chats")

    def pause(self, batch_seconds: float, messages: int | None = None) -> float:
        """Adapt to the load and sleep after a batch. Returns the seconds spent on waiting for others.

        `messages` is the number of messages in the batch, if it differs from `self.messages`. Beside chats, the pace is
        limited, because their commits wait for the writes of the archival, which statement times do not show.
        """
        bundled = self.messages if messages is None else messages
        self._adapt(batch_seconds)
        self._sample()
        waited = 0.0
        while self.overload is not None and waited < MAX_WAIT:
            self.messages, self.last_pause_reason = MIN_MESSAGES, self.overload
            self._sleep(SAMPLE_INTERVAL)
            waited += SAMPLE_INTERVAL
            self._sample(force=True)
        if self.maintenance is not None and self.overload is None:
            self.last_pause_reason = self.maintenance
            self._sleep(MAINTENANCE_PAUSE)
            return waited + MAINTENANCE_PAUSE
        if waited == 0:
            paced = 0.0 if self._latency.chats_idle else bundled / self._pace - batch_seconds
            self._sleep(max(batch_seconds * PAUSE_FACTOR, paced))
        return waited

    def _adapt(self, batch_seconds: float) -> None:
        if batch_seconds > TARGET_SECONDS:
            self.messages = max(MIN_MESSAGES, self.messages // 2)
        elif batch_seconds < TARGET_SECONDS / 2:
            self.messages = min(MAX_MESSAGES, self.messages * 2)
        if not self._latency.chats_idle:
            self.messages = max(MIN_MESSAGES, min(self.messages, int(self._pace * TARGET_SECONDS)))

    def _sample(self, *, force: bool = False) -> None:
        """Measure the load, unless it was measured within the last second."""
        if not force and self._clock() - self._sampled_at < SAMPLE_INTERVAL:
            return
        self._sampled_at = self._clock()
        pressure = _PRESSURE.one(self._connection, {})
        assert pressure is not None  # noqa: S101  # it selects one row
        waiting, slow = requests_waiting(self._home), self._latency.sample()
        if waiting:
            self.overload = f"{waiting} requests wait for a database connection"
        elif pressure.used > MAX_CONNECTION_SHARE:
            self.overload = f"{pressure.used:.0%} of the server's connections are in use"
        elif slow is not None and slow > self._slow_ms:
            self.overload = f"the slowest chats' statements take {slow:.0f} ms, and {self._slow_ms:g} is the limit"
        else:
            self.overload = None
        self.maintenance = f"{pressure.maintained} is being maintained" if pressure.maintained else None


def throttle_from_settings(connection: Connection) -> Throttle:
    """Return a throttle that measures over `connection`, with the settings of the current application."""
    settings = current_settings()
    return Throttle(
        connection,
        home=settings.server.home,
        slow_ms=settings.archive.pause_p95_ms,
        pace=settings.archive.messages_per_second,
    )
