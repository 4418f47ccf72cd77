"""`flask ops locks`: sessions that wait for locks, open transactions, and the end of one session."""

from dataclasses import dataclass
from datetime import timedelta

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from ops.checks.context import open_check_context
from ops.cli.actions import ChangePlan, confirm, operator, yes_option
from ops.cli.base import command, json_option, print_report
from ops.cli.rendering import table, words
from ops.doctor.session_end import end_session, find_session_to_end
from ops.doctor.sessions import LockReport, Session, WaitingSession, read_locks, read_transactions
from ops.formatting import format_duration
from ops.levels import Level
from ops.runs.audit import audited


@dataclass(frozen=True, slots=True, kw_only=True)
class LocksReport:
    """Sessions that wait for locks, and all open transactions, oldest first."""

    locks: LockReport
    transactions: tuple[Session, ...]


@command("locks")
@click.option("--end", "pid", type=int, metavar="PID", help="End this session; its open transaction is rolled back.")
@yes_option
@json_option
def locks(pid: int | None, yes: bool, json: bool) -> None:
    """Show which sessions wait for locks, or end a session.

    Also lists open transactions. Statements are shown by name, never by text. Exit code 1 while a session waits.
    """
    if pid is not None:
        _end(pid, yes=yes, json=json)
        return
    if yes:
        raise click.UsageError("--yes is for --end PID.")
    with open_check_context() as context:
        report = LocksReport(locks=read_locks(context), transactions=tuple(read_transactions(context)))
    level = Level.WARNING if report.locks.waiting else Level.OK
    print_report("locks", report, json=json, level=level, view=lambda console: _print(console, report))


def _end(pid: int, *, yes: bool, json: bool) -> None:
    found = find_session_to_end(pid)
    session = found.session
    confirm(
        ChangePlan(
            summary=f"end the session {_describe_blocker(pid, session)} of the role {session.role}.",
            undo="none; its open transaction is rolled back, and its request or command fails",
        ),
        yes=yes,
    )
    details = {"application": session.application, "role": session.role, "statement": session.statement}
    with audited(actor=operator(), action="session.end", target=str(pid), details=details) as notes:
        ended = end_session(found)
        notes["ended"] = ended.ended
    print_report("locks --end", ended, json=json, level=Level.OK if ended.ended else Level.WARNING)


def _print(console: Console, report: LocksReport) -> None:
    if not report.locks.waiting:
        console.print("No session waits for a lock.", style="green")
    blockers = {session.pid: session for session in report.locks.blockers}
    for root in report.locks.roots:
        tree = Tree(words(_describe_blocker(root, blockers.get(root)), style="bold"))
        _add_waiting(tree, root, report.locks.waiting, seen={root})
        console.print(tree)
        console.print(f"  end it with: {_ending(root)}", style="cyan")
    if report.transactions:
        console.print(Text("\nOpen transactions", style="bold"))
        rows = [
            {
                "pid": transaction.pid,
                "open for": _seconds(transaction.transaction_seconds),
                "state": transaction.state,
                "for": _seconds(transaction.state_seconds),
                "application": transaction.application,
                "role": transaction.role,
                "statement": transaction.statement,
                "request": transaction.request,
            }
            for transaction in report.transactions
        ]
        table(console, rows)


def _add_waiting(tree: Tree, pid: int, waiting: tuple[WaitingSession, ...], seen: set[int]) -> None:
    """Add the sessions that wait for `pid`; one that waits for two is shown below the first."""
    for session in waiting:
        if pid in session.blocked_by and session.pid not in seen:
            seen.add(session.pid)
            name = f"{session.pid} {session.application} {session.statement}"
            lock = f"{session.mode} on {session.lock_on}"
            text = f"{name}: waits {_seconds(session.waiting_seconds)} for {lock}"
            _add_waiting(tree.add(words(text)), session.pid, waiting, seen)


def _describe_blocker(pid: int, session: Session | None) -> str:
    if pid == 0:
        return "a prepared transaction"
    if session is None:
        return f"{pid}, already ended"
    transaction = f", transaction open for {_seconds(session.transaction_seconds)}"
    return f"{pid} {session.application} {session.statement} ({session.state}{transaction})"


def _ending(pid: int) -> str:
    """Return the command that ends a blocker; a prepared transaction has no session to end."""
    return f"flask ops locks --end {pid}" if pid else "SELECT * FROM pg_prepared_xacts, then ROLLBACK PREPARED"


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else format_duration(timedelta(seconds=seconds))
