"""Whether others need the database more than the archival or its undo, and how to make way for them.

Slow, but never stuck: whoever is waited for, after a while the next small batch goes all the same, so that the oldest
conversation does not wait for ever.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from app.metrics.waiting import requests_waiting
from app.repositories.statement import Statement
from app.services.container import services
from ops.archive.latency import Latency, latency

LOOK_EVERY = 1.0  # seconds
REST = 2.0  # times what a batch took, without anybody in particular to make way for
SLOW_REST = 2.0  # seconds between batches while our tables are being maintained
PATIENCE = 30.0  # seconds to wait for people to be served
FULL = 0.9  # of the server's connections

TARGET = 0.2  # seconds for a batch
SMALLEST, LARGEST = 100, 4_000  # messages in one

# Locks say who maintains a table, and unlike the progress views they say so to every role: VACUUM, ANALYZE and CREATE
# INDEX CONCURRENTLY hold this one for as long as they work.
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


class Load:
    """Looks at the database over a connection of its own, and decides how large batches are and how long to rest."""

    def __init__(
        self,
        connection: Connection,
        *,
        home: Path,
        slow_ms: float,
        pace: int,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        measure: Latency | None = None,
    ) -> None:
        self._connection, self._home, self._slow_ms, self._pace = connection, home, slow_ms, pace
        self._sleep, self._clock = sleep, clock
        self._latency = measure or latency(connection)
        self._looked = -math.inf
        self.messages = 500  # for the next batch
        self.people: str | None = None  # why people are waited for
        self.maintenance: str | None = None  # why it goes slowly
        self.waited_for: str | None = None  # the last of these that it waited for

    @property
    def reason(self) -> str | None:
        """Why it makes way, in a sentence; None if it does not."""
        return self.people or self.maintenance

    @property
    def note(self) -> str:
        """What somebody who watches it would ask: why it is so slow."""
        return self.reason or ("" if self._latency.quiet else f"at most {self._pace:,} messages a second beside chats")

    def rest(self, took: float, messages: int | None = None) -> float:
        """After a batch of so many seconds: adapt, and make way. Returns the seconds waited for others.

        `messages` says how many it had, where that is not about as many as were asked for.
        While people chat it keeps to a pace. What hurts them is not how long its statements take, but what the disk has
        to write: their commits wait for that, and no statement's time tells of a commit.
        """
        moved = self.messages if messages is None else messages
        self._adapt(took)
        self._look()
        waited = 0.0
        while self.people is not None and waited < PATIENCE:
            self.messages, self.waited_for = SMALLEST, self.people
            self._sleep(LOOK_EVERY)
            waited += LOOK_EVERY
            self._look(now=True)
        if self.maintenance is not None and self.people is None:
            self.waited_for = self.maintenance
            self._sleep(SLOW_REST)
            return waited + SLOW_REST
        if waited == 0:
            paced = 0.0 if self._latency.quiet else moved / self._pace - took
            self._sleep(max(took * REST, paced))
        return waited

    def _adapt(self, took: float) -> None:
        if took > TARGET:
            self.messages = max(SMALLEST, self.messages // 2)
        elif took < TARGET / 2:
            self.messages = min(LARGEST, self.messages * 2)
        if not self._latency.quiet:
            self.messages = max(SMALLEST, min(self.messages, int(self._pace * TARGET)))

    def _look(self, *, now: bool = False) -> None:
        """Look, unless it was looked a moment ago."""
        if not now and self._clock() - self._looked < LOOK_EVERY:
            return
        self._looked = self._clock()
        pressure = _PRESSURE.one(self._connection, {})
        assert pressure is not None  # noqa: S101  # it selects one row
        waiting, slow = requests_waiting(self._home), self._latency.look()
        if waiting:
            self.people = f"{waiting} requests wait for a database connection"
        elif pressure.used > FULL:
            self.people = f"{pressure.used:.0%} of the server's connections are in use"
        elif slow is not None and slow > self._slow_ms:
            self.people = f"the slowest chats' statements take {slow:.0f} ms, and {self._slow_ms:g} is the limit"
        else:
            self.people = None
        self.maintenance = f"{pressure.maintained} is being maintained" if pressure.maintained else None


def load_by_settings(connection: Connection) -> Load:
    """One that looks over `connection`, by the settings of the current application."""
    settings = services().settings
    return Load(connection, home=settings.server.home, slow_ms=settings.archive.slow_ms, pace=settings.archive.pace)
