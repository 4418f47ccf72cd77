"""Estimates of the current 95th percentile of the chats' statement times.

The source is pg_stat_statements if available: the statements of turns since the last sample. Otherwise it is sample
reads like the first one of a turn.
"""

import math
import random
import time
from collections import deque
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.repositories.statement import Statement

_IDS_TTL = 60.0  # seconds; new statements are found after it
_MIN_CALLS = 10  # fewer say too little
_MAX_READS = 40  # sample reads that are remembered
_NORMAL_95 = 1.645  # standard deviations from the mean to the 95th percentile of a normal distribution

_IDS = Statement(
    "archive.statement_ids",
    """
SELECT queryid FROM pg_stat_statements
 WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND (query LIKE '%%/* turns.begin%%' OR query LIKE '%%/* turns.finish%%')""",
)
_TIMES = Statement(
    "archive.statement_times",
    """
SELECT coalesce(sum(calls), 0)::bigint AS calls, coalesce(sum(total_exec_time), 0) AS total,
       coalesce(sum(calls * (stddev_exec_time ^ 2 + mean_exec_time ^ 2)), 0) AS squares
  FROM pg_stat_statements(false) WHERE queryid = ANY (%(ids)s)""",
)
# The last messages of a conversation, read by the primary key as a turn reads them.
_READ = Statement(
    "archive.sample_read",
    """
SELECT count(content) FROM (
    SELECT content FROM messages
     WHERE (user_id, conversation_id) = (
           SELECT user_id, conversation_id FROM messages WHERE user_id >= %(user_id)s
            ORDER BY user_id, conversation_id LIMIT 1)
     ORDER BY position DESC LIMIT 20) AS newest""",
)

_ENDS = Statement(
    "archive.first_and_last_user",
    """
SELECT (SELECT user_id FROM messages ORDER BY user_id LIMIT 1) AS first,
       (SELECT user_id FROM messages ORDER BY user_id DESC LIMIT 1) AS last""",
)


class LatencySource(Protocol):
    """A source of latency samples. `chats_idle`: no turn ran between the last two samples; False if unknown."""

    chats_idle: bool

    def sample(self) -> float | None:
        """Return the 95th percentile in milliseconds, since the last call or of recent reads; None if unknown."""


def choose_latency_source(connection: Connection) -> LatencySource:
    """Return the best source that this database supports."""
    source = StatementTimes(connection)
    return source if source.works else SampleReads(connection)


class StatementTimes:
    """Latency from pg_stat_statements."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ids: list[int] = []
        self._ids_read_at = -math.inf
        self._previous: Any = None
        self.chats_idle = False
        self.works = True
        self.sample()

    def sample(self) -> float | None:
        """Return the 95th percentile of a normal distribution, because only mean and deviation are recorded."""
        try:
            if time.monotonic() - self._ids_read_at > _IDS_TTL:
                self._ids = [row.queryid for row in _IDS.all(self._connection, {})]
                self._ids_read_at, self._previous = time.monotonic(), None
            current = _TIMES.one(self._connection, {"ids": self._ids})
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            self.works = False  # the extension is missing, or this role may not read it
            return None
        previous, self._previous = self._previous, current
        self.chats_idle = previous is not None and current is not None and current.calls == previous.calls
        if previous is None or current is None or current.calls - previous.calls < _MIN_CALLS:
            return None
        calls = current.calls - previous.calls
        mean = (current.total - previous.total) / calls
        variance = max(0.0, (current.squares - previous.squares) / calls - mean**2)
        return float(mean + _NORMAL_95 * math.sqrt(variance))


class SampleReads:
    """Latency of sample reads, including the round trip."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        ends = _ENDS.one(connection, {})
        self._users = (ends.first.int, ends.last.int) if ends is not None and ends.first else (0, 0)
        self._milliseconds: deque[float] = deque(maxlen=_MAX_READS)
        self.chats_idle = False

    def sample(self) -> float | None:
        """Read a random conversation's messages; return the 95th percentile of the last 40 reads."""
        user_id = UUID(int=random.randint(*self._users))  # noqa: S311  # not for security
        started = time.perf_counter()
        _READ.one(self._connection, {"user_id": user_id})
        self._milliseconds.append((time.perf_counter() - started) * 1000)
        if len(self._milliseconds) < _MIN_CALLS:
            return None
        return sorted(self._milliseconds)[math.ceil(len(self._milliseconds) * 0.95) - 1]
