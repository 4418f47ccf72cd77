"""`flask ops locks`: who waits for whom, and whose transactions are open."""

from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from ops.checks.sessions import LockReport, Open, Waiting, ending, read_locks, read_transactions
from ops.cli.frame import json_option, ops, tell
from ops.cli.rendering import span, table, words
from ops.doctor import probing
from ops.levels import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The queue for locks, and all open transactions, the oldest first."""

    locks: LockReport
    transactions: tuple[Open, ...]


@ops.command("locks")
@json_option
def show_locks(json: bool) -> None:
    """Who waits for a lock and for whom, and which transactions are open. Statements by name, never by text.

    Exit code 1 while anybody waits.
    """
    with probing() as probe:
        held = Held(locks=read_locks(probe), transactions=tuple(read_transactions(probe)))
    level = Level.WARNING if held.locks.waiting else Level.OK
    tell("locks", held, json=json, level=level, view=lambda console: _show(console, held))


def _show(console: Console, held: Held) -> None:
    if not held.locks.waiting:
        console.print("Nobody waits for a lock.", style="green")
    known = {each.pid: each for each in held.locks.blockers}
    for root in held.locks.roots:
        tree = Tree(words(_holder(root, known.get(root)), style="bold"))
        _hang(tree, root, held.locks.waiting, seen={root})
        console.print(tree)
        console.print(f"  to end it: {ending(root, known.get(root))}", style="cyan")
    if held.transactions:
        console.print(Text("\nOpen transactions", style="bold"))
        rows = [
            {
                "pid": each.pid,
                "open for": _seconds(each.transaction_seconds),
                "state": each.state,
                "for": _seconds(each.state_seconds),
                "application": each.application,
                "account": each.account,
                "statement": each.statement,
                "request": each.request,
            }
            for each in held.transactions
        ]
        table(console, rows)


def _hang(tree: Tree, pid: int, waiting: tuple[Waiting, ...], seen: set[int]) -> None:
    """Those who wait for `pid`; who waits for two is shown below the first."""
    for each in waiting:
        if pid in each.blocked_by and each.pid not in seen:
            seen.add(each.pid)
            told = f"{each.pid} {each.application} {each.statement}: waits {_seconds(each.waiting_seconds)} for "
            _hang(tree.add(words(f"{told}{each.mode} on {each.lock_on}")), each.pid, waiting, seen)


def _holder(pid: int, session: Open | None) -> str:
    if pid == 0:
        return "a prepared transaction"
    if session is None:
        return f"{pid}, which has just ended"
    opened = f", transaction open for {_seconds(session.transaction_seconds)}"
    return f"{pid} {session.application} {session.statement} ({session.state}{opened})"


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else span(timedelta(seconds=seconds))
