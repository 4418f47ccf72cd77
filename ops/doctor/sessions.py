"""The database's sessions: open transactions and lock waits.

Of a statement, only the name in its leading comment and the request id are read, never its text, which may contain what
users wrote.
"""

from dataclasses import dataclass
from typing import Annotated

from app.repositories.statement import Statement
from ops.checks.context import CheckContext

UNNAMED = "unnamed"
HIDDEN = "hidden"  # this role may not see the session's state

_NAME = r"""coalesce(substring(a.query from '/\* ([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)(?: rid=[^ ]+)? \*/'),
                CASE WHEN a.query = '<insufficient privilege>' THEN 'hidden' ELSE 'unnamed' END)"""
_REQUEST = r"""substring(a.query from '/\* [a-z0-9_.]* ?rid=([A-Za-z0-9._-]{1,64}) \*/')"""
# The columns of `Session`, for the view pg_stat_activity as `a`.
DESCRIBED = f"""
       a.pid, coalesce(nullif(a.application_name, ''), 'without a name') AS application,
       coalesce(a.usename::text, '') AS role, coalesce(a.state, 'hidden') AS state,
       {_NAME} AS statement, {_REQUEST} AS request,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS transaction_seconds,
       extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS state_seconds"""

# Sessions with an open transaction, and those whose state is hidden.
TRANSACTIONS = Statement(
    "ops.transactions",
    f"""
SELECT {DESCRIBED}
  FROM pg_stat_activity a
 WHERE coalesce(a.backend_type, 'client backend') IN ('client backend', 'walsender') AND a.pid <> pg_backend_pid()
   AND a.datname = current_database() AND (a.xact_start IS NOT NULL OR a.state IS NULL)
 ORDER BY a.xact_start NULLS LAST""",  # noqa: S608  # constants
)

# pg_blocking_pids is called only for waiting sessions, because it locks the lock table for a moment.
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
SELECT {DESCRIBED}, w.mode, w.lock_on, pg_blocking_pids(w.pid) AS blocked_by,
       coalesce(extract(epoch FROM clock_timestamp() - w.since), 0)::float8 AS waiting_seconds
  FROM waiting w JOIN pg_stat_activity a ON a.pid = w.pid
 WHERE a.datname = current_database()
 ORDER BY w.since NULLS LAST""",  # noqa: S608  # constants
)
BLOCKERS = Statement(
    "ops.blockers",
    f"""
SELECT {DESCRIBED} FROM pg_stat_activity a WHERE a.pid = ANY (%(pids)s) ORDER BY a.xact_start NULLS LAST""",  # noqa: S608
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session of the database."""

    pid: Annotated[int, "Process id of the session."]
    application: Annotated[str, "Its application name."]
    role: Annotated[str, "Its role in the database."]
    state: Annotated[str, "Its state."]
    statement: Annotated[str, "Name of its last statement."]
    request: Annotated[str | None, "Id of the request that sent it; null if unknown."]
    transaction_seconds: Annotated[float | None, "Age of its transaction; null without one."]
    state_seconds: Annotated[float | None, "Time since its state changed; null if unknown."]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingSession:
    """A session that waits for a lock."""

    pid: Annotated[int, "Process id of the session."]
    application: Annotated[str, "Its application name."]
    statement: Annotated[str, "Name of its statement."]
    request: Annotated[str | None, "Id of the request that sent it; null if unknown."]
    waiting_seconds: Annotated[float, "Time that it has waited."]
    mode: Annotated[str, "Mode of the lock."]
    lock_on: Annotated[str, "The table or other object to be locked."]
    blocked_by: Annotated[tuple[int, ...], "Process ids of the sessions that block it; 0 for a prepared transaction."]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockReport:
    """Sessions that wait for locks, and the sessions that block them."""

    waiting: Annotated[tuple[WaitingSession, ...], "Waiting sessions, the longest first."]
    blockers: Annotated[tuple[Session, ...], "Sessions that block others."]
    roots: Annotated[tuple[int, ...], "Process ids of blockers that do not wait themselves."]


def end_session_sql(pid: int, session: Session | None) -> str:
    """Return the statement that cancels the session's statement, or terminates an idle session."""
    if pid == 0:  # a prepared transaction
        return "SELECT * FROM pg_prepared_xacts"
    idle = session is not None and session.state.startswith("idle")
    return f"SELECT pg_{'terminate' if idle else 'cancel'}_backend({pid})"


def read_transactions(context: CheckContext) -> list[Session]:
    """Read the sessions with open transactions, the oldest first, and those whose state is hidden."""
    return [Session(**row._mapping) for row in TRANSACTIONS.all(context.connection, {})]


def read_locks(context: CheckContext) -> LockReport:
    """Read the lock waits of this database."""
    rows = WAITING.all(context.connection, {})
    waiting = tuple(
        WaitingSession(
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
    pids = sorted({pid for session in waiting for pid in session.blocked_by})
    blockers = (
        tuple(Session(**row._mapping) for row in BLOCKERS.all(context.connection, {"pids": pids})) if pids else ()
    )
    waiting_pids = {session.pid for session in waiting}
    return LockReport(waiting=waiting, blockers=blockers, roots=tuple(pid for pid in pids if pid not in waiting_pids))
