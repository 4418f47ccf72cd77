"""How long chats' statements take just now: of the slowest 5%, about.

Where pg_stat_statements is to be had, from what has been added to the turns' two statements since the last look.
Otherwise from reads of our own, of the kind that a turn begins with.
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

_IDS_KNOWN = 60.0  # seconds; then statements that have come since are found as well
_FEWEST = 10  # calls that say something
_READS = 40  # of our own, in mind
_NORMAL_95 = 1.645  # standard deviations below which 95% of a normal distribution are

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
# The last messages of some conversation, found by the primary key as a turn finds them.
_READ = Statement(
    "archive.read_of_our_own",
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


class Latency(Protocol):
    """A way to know it. `quiet`: nobody has chatted between the last two looks; False where that is not known."""

    quiet: bool

    def look(self) -> float | None:
        """Milliseconds that 95% of the statements since the last look, or lately, stayed below; None if unknown."""


def latency(connection: Connection) -> Latency:
    """The best way that this database offers."""
    found = StatementTimes(connection)
    return found if found.works else OwnReads(connection)


class StatementTimes:
    """From pg_stat_statements."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ids: list[int] = []
        self._ids_known = -math.inf
        self._before: Any = None
        self.quiet = False
        self.works = True
        self.look()

    def look(self) -> float | None:
        """See `Latency`. The distribution is taken for a normal one: mean and deviation are all that is kept of it."""
        try:
            if time.monotonic() - self._ids_known > _IDS_KNOWN:
                self._ids = [row.queryid for row in _IDS.all(self._connection, {})]
                self._ids_known, self._before = time.monotonic(), None
            now = _TIMES.one(self._connection, {"ids": self._ids})
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            self.works = False  # no such extension, or not for us
            return None
        before, self._before = self._before, now
        self.quiet = before is not None and now is not None and now.calls == before.calls
        if before is None or now is None or now.calls - before.calls < _FEWEST:
            return None
        calls = now.calls - before.calls
        mean = (now.total - before.total) / calls
        variance = max(0.0, (now.squares - before.squares) / calls - mean**2)
        return float(mean + _NORMAL_95 * math.sqrt(variance))


class OwnReads:
    """From reads of our own, the way there and back included."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        ends = _ENDS.one(connection, {})
        self._users = (ends.first.int, ends.last.int) if ends is not None and ends.first else (0, 0)
        self._took: deque[float] = deque(maxlen=_READS)
        self.quiet = False

    def look(self) -> float | None:
        """See `Latency`."""
        somebody = UUID(int=random.randint(*self._users))  # noqa: S311  # anybody will do
        begun = time.perf_counter()
        _READ.one(self._connection, {"user_id": somebody})
        self._took.append((time.perf_counter() - begun) * 1000)
        if len(self._took) < _FEWEST:
            return None
        return sorted(self._took)[math.ceil(len(self._took) * 0.95) - 1]
