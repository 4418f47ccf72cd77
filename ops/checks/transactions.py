"""Transactions that hold others up: open for too long, forgotten, or waited for."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from ops.checks.probe import Probe
from ops.checks.sessions import HIDDEN, Open, Waiting, ending, read_locks, read_transactions
from ops.findings import CannotJudge, Finding
from ops.levels import Level
from ops.words import span

LONG, VERY_LONG = timedelta(minutes=5), timedelta(minutes=30)
DUMPING = ("pg_dump", "parley backup")  # whose snapshot is open for as long as a backup takes
DUMP = timedelta(hours=6)
IDLE, FORGOTTEN = timedelta(minutes=1), timedelta(minutes=10)
BLOCKED, STUCK = timedelta(seconds=5), timedelta(seconds=60)


def long(probe: Probe) -> Iterator[Finding]:
    """Transactions that have been open for longer than `LONG`, and are at work."""
    sessions = read_transactions(probe)
    for each in sessions:
        age = timedelta(seconds=each.transaction_seconds or 0)
        allowed = DUMP if each.application.startswith(DUMPING) else LONG
        if age >= allowed and not _is_idle(each):
            yield Finding(
                level=Level.CRITICAL if age >= max(VERY_LONG, allowed) else Level.WARNING,
                what=f"Session {each.pid} of {each.application} has had a transaction open for {span(age)}; meanwhile "
                "no dead row can be cleaned up.",
                evidence=_evidence(each),
                remedy="See what it is at (flask ops locks); if nobody misses it, cancel it",
                sql=f"SELECT pg_cancel_backend({each.pid})",
            )
    _all_seen(sessions)


def idle(probe: Probe) -> Iterator[Finding]:
    """Transactions in which nothing has happened for longer than `IDLE`."""
    sessions = read_transactions(probe)
    for each in sessions:
        pause = timedelta(seconds=each.state_seconds or 0)
        if _is_idle(each) and pause >= IDLE:
            yield Finding(
                level=Level.CRITICAL if pause >= FORGOTTEN else Level.WARNING,
                what=f"Session {each.pid} of {each.application} has left a transaction open for {span(pause)}, doing "
                "nothing.",
                evidence=_evidence(each),
                remedy="End it; its client should not wait for others inside a transaction",
                sql=f"SELECT pg_terminate_backend({each.pid})",
            )
    _all_seen(sessions)


def blocked(probe: Probe) -> Iterator[Finding]:
    """Sessions that have waited for a lock for longer than `BLOCKED`; one finding for each that holds others up."""
    report = read_locks(probe)
    late = [each for each in report.waiting if each.waiting_seconds >= BLOCKED.total_seconds()]
    for root in report.roots:
        behind = _behind(root, report.waiting)
        waits = [each for each in late if each.pid in behind]
        if not waits:
            continue
        longest = waits[0]
        holder = next((each for each in report.blockers if each.pid == root), None)
        who = (
            f"session {root} of {holder.application} ({holder.state}, {holder.statement})"
            if holder
            else ("a prepared transaction" if root == 0 else f"session {root}, which has just ended")
        )
        yield Finding(
            level=Level.CRITICAL if longest.waiting_seconds >= STUCK.total_seconds() else Level.WARNING,
            what=f"{'1 session waits' if len(behind) == 1 else f'{len(behind)} sessions wait'} for {who}, the first "
            f"for {span(timedelta(seconds=longest.waiting_seconds))}, on {longest.lock_on}.",
            evidence={
                "blocker": None if holder is None else _evidence(holder),
                "waiting": [f"{each.pid} {each.statement} {each.mode} on {each.lock_on}" for each in waits[:10]],
            },
            remedy="flask ops locks; if nobody misses what the blocker does, end it",
            sql=ending(root, holder),
        )


def _behind(root: int, waiting: Sequence[Waiting]) -> set[int]:
    """All who wait for that session, or for somebody who does."""
    behind: set[int] = set()
    grown = True
    while grown:
        more = {each.pid for each in waiting if behind.union({root}).intersection(each.blocked_by)} - behind
        behind, grown = behind | more, bool(more)
    return behind


def _is_idle(session: Open) -> bool:
    return session.state.startswith("idle in transaction")


def _evidence(session: Open) -> dict[str, Any]:
    return {
        "pid": session.pid,
        "account": session.account,
        "state": session.state,
        "statement": session.statement,
        "request": session.request,
        "transaction": None if session.transaction_seconds is None else timedelta(seconds=session.transaction_seconds),
    }


def _all_seen(sessions: Sequence[Open]) -> None:
    """Raises `CannotJudge` where there are sessions of which this account is shown nothing."""
    if unseen := [each for each in sessions if each.state == HIDDEN]:
        accounts = ", ".join(sorted({each.account for each in unseen}))
        raise CannotJudge(
            f"{len(unseen)} sessions of {accounts} are hidden from this account.",
            remedy="GRANT pg_read_all_stats TO the account of DATABASE_DIRECT_URL",
        )
