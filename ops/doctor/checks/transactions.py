"""Transactions that block others or vacuum: long-running, idle, or holding locks that others wait for."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.sessions import (
    HIDDEN,
    Session,
    WaitingSession,
    end_session_sql,
    read_locks,
    read_transactions,
)
from ops.errors import UnknownState
from ops.formatting import format_duration
from ops.levels import Level

LONG, VERY_LONG = timedelta(minutes=5), timedelta(minutes=30)
BACKUP_APPLICATIONS = ("pg_dump", "parley backup")  # their snapshot is open for as long as a backup takes
BACKUP_LIMIT = timedelta(hours=6)
IDLE, VERY_IDLE = timedelta(minutes=1), timedelta(minutes=10)
BLOCKED, STUCK = timedelta(seconds=5), timedelta(seconds=60)


@check("transactions.blocked", "Are sessions blocked by locks?", severity=Level.CRITICAL)
def blocked(context: CheckContext) -> Iterator[Finding]:
    """Find blockers of sessions that have waited longer than `BLOCKED`, one finding for each blocker."""
    report = read_locks(context)
    late = [session for session in report.waiting if session.waiting_seconds >= BLOCKED.total_seconds()]
    for root in report.roots:
        blocked_pids = _blocked_pids(root, report.waiting)
        waiting = [session for session in late if session.pid in blocked_pids]
        if not waiting:
            continue
        longest = waiting[0]
        blocker = next((session for session in report.blockers if session.pid == root), None)
        description = (
            f"session {root} of {blocker.application} ({blocker.state}, {blocker.statement})"
            if blocker
            else ("a prepared transaction" if root == 0 else f"session {root}, which has just ended")
        )
        count = "1 session waits" if len(blocked_pids) == 1 else f"{len(blocked_pids)} sessions wait"
        yield Finding(
            level=Level.CRITICAL if longest.waiting_seconds >= STUCK.total_seconds() else Level.WARNING,
            message=f"{count} for {description}, the first for"
            f" {format_duration(timedelta(seconds=longest.waiting_seconds))}, on {longest.lock_on}.",
            object="a prepared transaction" if blocker is None else blocker.application,
            evidence={
                "blocker": None if blocker is None else _evidence(blocker),
                "waiting": [
                    f"{session.pid} {session.statement} {session.mode} on {session.lock_on}" for session in waiting[:10]
                ],
            },
            remedy="Is the blocker's work needed (flask ops locks)? If not, end it",
            sql=end_session_sql(root, blocker),
        )


@check("transactions.long", "Are there long-running transactions?", severity=Level.CRITICAL)
def long(context: CheckContext) -> Iterator[Finding]:
    """Find active transactions that have been open for longer than `LONG`."""
    sessions = read_transactions(context)
    for session in sessions:
        age = timedelta(seconds=session.transaction_seconds or 0)
        limit = BACKUP_LIMIT if session.application.startswith(BACKUP_APPLICATIONS) else LONG
        if age >= limit and not _is_idle(session):
            yield Finding(
                level=Level.CRITICAL if age >= max(VERY_LONG, limit) else Level.WARNING,
                message=f"Session {session.pid} of {session.application} has had a transaction open for"
                f" {format_duration(age)}; vacuum cannot remove rows that died since then.",
                object=session.application,
                evidence=_evidence(session),
                remedy="What does it do (flask ops locks), and is it needed? If not, cancel it",
                sql=f"SELECT pg_cancel_backend({session.pid});",
            )
    _require_visible(sessions)


@check("transactions.idle", "Are there sessions idle in transaction?", severity=Level.CRITICAL)
def idle(context: CheckContext) -> Iterator[Finding]:
    """Find sessions that have been idle in a transaction for longer than `IDLE`."""
    sessions = read_transactions(context)
    for session in sessions:
        idle_time = timedelta(seconds=session.state_seconds or 0)
        if _is_idle(session) and idle_time >= IDLE:
            yield Finding(
                level=Level.CRITICAL if idle_time >= VERY_IDLE else Level.WARNING,
                message=f"Session {session.pid} of {session.application} has been idle in a transaction for"
                f" {format_duration(idle_time)}.",
                object=session.application,
                evidence=_evidence(session),
                remedy="End it; its client must not keep a transaction open while it waits",
                sql=f"SELECT pg_terminate_backend({session.pid});",
            )
    _require_visible(sessions)


def _blocked_pids(root: int, waiting: Sequence[WaitingSession]) -> set[int]:
    """Return the sessions that wait for `root`, directly or through others."""
    blocked: set[int] = set()
    while True:
        more = {session.pid for session in waiting if blocked.union({root}).intersection(session.blocked_by)} - blocked
        if not more:
            return blocked
        blocked |= more


def _is_idle(session: Session) -> bool:
    return session.state.startswith("idle in transaction")


def _evidence(session: Session) -> dict[str, Any]:
    return {
        "pid": session.pid,
        "role": session.role,
        "state": session.state,
        "statement": session.statement,
        "request": session.request,
        "transaction": None if session.transaction_seconds is None else timedelta(seconds=session.transaction_seconds),
    }


def _require_visible(sessions: Sequence[Session]) -> None:
    """Raise `UnknownState` if this role may not see the state of some sessions."""
    if hidden := [session for session in sessions if session.state == HIDDEN]:
        roles = ", ".join(sorted({session.role for session in hidden}))
        raise UnknownState(
            f"{len(hidden)} sessions of {roles} are hidden from this role.",
            remedy="GRANT pg_read_all_stats TO the role of DATABASE_DIRECT_URL",
        )
