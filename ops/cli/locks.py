"""`flask ops locks`: sessions that wait for locks, open transactions, and the end of one session."""

from dataclasses import dataclass

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from ops.checks.context import open_check_context
from ops.cli.base import command, json_option, print_report, yes_option
from ops.cli.rendering import table, words
from ops.cli.session_texts import describe_blocker, format_seconds
from ops.doctor.sessions import LockReport, Session, WaitingSession, read_locks, read_transactions
from ops.levels import Level


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
        from ops.cli.locks_end import end  # reading does not need what a change imports

        end(pid, yes=yes, json=json)
        return
    if yes:
        raise click.UsageError("--yes is for --end PID.")
    with open_check_context() as context:
        report = LocksReport(locks=read_locks(context), transactions=tuple(read_transactions(context)))
    level = Level.WARNING if report.locks.waiting else Level.OK
    print_report("locks", report, json=json, level=level, view=lambda console: _print(console, report))


def _print(console: Console, report: LocksReport) -> None:
    if not report.locks.waiting:
        console.print("No session waits for a lock.", style="green")
    blockers = {session.pid: session for session in report.locks.blockers}
    for root in report.locks.roots:
        tree = Tree(words(describe_blocker(root, blockers.get(root)), style="bold"))
        _add_waiting(tree, root, report.locks.waiting, seen={root})
        console.print(tree)
        console.print(f"  end it with: {_ending(root)}", style="cyan")
    if report.transactions:
        console.print(Text("\nOpen transactions", style="bold"))
        rows = [
            {
                "pid": transaction.pid,
                "open for": format_seconds(transaction.transaction_seconds),
                "state": transaction.state,
                "for": format_seconds(transaction.state_seconds),
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
            text = f"{name}: waits {format_seconds(session.waiting_seconds)} for {lock}"
            _add_waiting(tree.add(words(text)), session.pid, waiting, seen)


def _ending(pid: int) -> str:
    """Return the command that ends a blocker; a prepared transaction has no session to end."""
    return f"flask ops locks --end {pid}" if pid else "SELECT * FROM pg_prepared_xacts, then ROLLBACK PREPARED"
