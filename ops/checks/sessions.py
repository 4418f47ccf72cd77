"""What the database's sessions are at, who waits for whom, and what keeps old row versions from being cleaned up.

Of a statement only its name is read, out of the comment that it begins with, and the id of its request; never its text,
which may hold what people wrote.
"""

from dataclasses import dataclass

from app.repositories.statement import Statement
from ops.checks.probe import Probe

UNNAMED = "unnamed"
HIDDEN = "hidden"  # the account may not see it

_NAME = r"""coalesce(substring(a.query from '/\* ([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)(?: rid=[^ ]+)? \*/'),
                CASE WHEN a.query = '<insufficient privilege>' THEN 'hidden' ELSE 'unnamed' END)"""
_REQUEST = r"""substring(a.query from '/\* [a-z0-9_.]* ?rid=([A-Za-z0-9._-]{1,64}) \*/')"""
_OPEN = f"""
       a.pid, coalesce(nullif(a.application_name, ''), 'without a name') AS application,
       coalesce(a.usename::text, '') AS account, coalesce(a.state, 'hidden') AS state,
       {_NAME} AS statement, {_REQUEST} AS request,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS transaction_seconds,
       extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS state_seconds"""

# Sessions with a transaction open; of those that are hidden only that they are there is known.
TRANSACTIONS = Statement(
    "ops.transactions",
    f"""
SELECT {_OPEN}
  FROM pg_stat_activity a
 WHERE coalesce(a.backend_type, 'client backend') IN ('client backend', 'walsender') AND a.pid <> pg_backend_pid()
   AND a.datname = current_database() AND (a.xact_start IS NOT NULL OR a.state IS NULL)
 ORDER BY a.xact_start NULLS LAST""",  # noqa: S608  # constants
)

# pg_blocking_pids is asked only where somebody waits: it stops the lock table for a moment.
WAITING = Statement(
    "ops.waiting",
    f"""
WITH waiting AS MATERIALIZED (
    SELECT l.pid, min(l.waitstart) AS since, min(l.mode) AS mode,
           min(CASE WHEN l.relation IS NOT NULL THEN l.relation::regclass::text ELSE l.locktype END) AS lock_on
      FROM pg_locks l
     WHERE NOT l.granted AND l.pid IS NOT NULL
       AND (l.database IS NULL OR l.database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))
     GROUP BY l.pid)
SELECT {_OPEN}, w.mode, w.lock_on, pg_blocking_pids(w.pid) AS blocked_by,
       coalesce(extract(epoch FROM clock_timestamp() - w.since), 0)::float8 AS waiting_seconds
  FROM waiting w JOIN pg_stat_activity a ON a.pid = w.pid
 WHERE a.datname = current_database()
 ORDER BY w.since NULLS LAST""",  # noqa: S608  # constants
)
BLOCKERS = Statement(
    "ops.blockers",
    f"""
SELECT {_OPEN} FROM pg_stat_activity a WHERE a.pid = ANY (%(pids)s) ORDER BY a.xact_start NULLS LAST""",  # noqa: S608
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A session, what it is at, and for how long its transaction has been open. `request` leads to its log lines."""

    pid: int
    application: str
    account: str
    state: str
    statement: str
    request: str | None
    transaction_seconds: float | None
    state_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A session that waits for a lock in `mode` on a table or whatever else `lock_on` is. A prepared transaction among
    `blocked_by` has the number 0.
    """

    pid: int
    application: str
    statement: str
    request: str | None
    waiting_seconds: float
    mode: str
    lock_on: str
    blocked_by: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockReport:
    """Who waits, the longest first, and those who hold what is waited for; `roots` are those who wait for nobody."""

    waiting: tuple[Waiting, ...]
    blockers: tuple[Open, ...]
    roots: tuple[int, ...]


def ending(pid: int, session: Open | None) -> str:
    """The statement that ends what a session does. One that does nothing has nothing to cancel."""
    if pid == 0:
        return "SELECT * FROM pg_prepared_xacts"
    idle = session is not None and session.state.startswith("idle")
    return f"SELECT pg_{'terminate' if idle else 'cancel'}_backend({pid})"


def read_transactions(probe: Probe) -> list[Open]:
    """The open transactions of this database, the oldest first, and the sessions of which nothing may be seen."""
    return [Open(**row._mapping) for row in TRANSACTIONS.all(probe.connection, {})]


def read_locks(probe: Probe) -> LockReport:
    """Who waits for whom, in this database."""
    rows = WAITING.all(probe.connection, {})
    waiting = tuple(
        Waiting(
            pid=row.pid,
            application=row.application,
            statement=row.statement,
            request=row.request,
            waiting_seconds=row.waiting_seconds,
            mode=row.mode,
            lock_on=row.lock_on,
            blocked_by=tuple(dict.fromkeys(row.blocked_by)),
        )
        for row in rows
    )
    pids = sorted({pid for each in waiting for pid in each.blocked_by})
    blockers = tuple(Open(**row._mapping) for row in BLOCKERS.all(probe.connection, {"pids": pids})) if pids else ()
    stuck = {each.pid for each in waiting}
    return LockReport(waiting=waiting, blockers=blockers, roots=tuple(pid for pid in pids if pid not in stuck))
