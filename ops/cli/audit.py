"""`flask ops audit`: the recorded actions of operators."""

from collections.abc import Sequence

import click
from rich.console import Console
from rich.text import Text

from ops.cli.base import command, json_option, print_report
from ops.cli.rendering import EMPTY, cell
from ops.runs.audit import AuditEntry, audit_entries

STYLES = {"done": "green", "refused": "yellow", "failed": "bold red", "begun": "magenta"}


@command("audit")
@click.option("--on", "target", help="Only actions on this target: a user id, a job name ...")
@click.option("--action", help="Only this action, for example user.disable.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Maximum number of results.")
@json_option
def audit(target: str | None, action: str | None, limit: int, json: bool) -> None:
    """List the recorded actions of operators, newest first."""
    entries = audit_entries(target=target, action=action, limit=limit)
    print_report("audit", entries, json=json, view=lambda console: _print(console, entries))


def _print(console: Console, entries: Sequence[AuditEntry]) -> None:
    """Print one line per action: time, result, action, target, actor; reason and details below it."""
    if not entries:
        console.print("No entries.", style="dim")
    for entry in entries:
        line = Text(f"{cell(entry.created_at)}  ", style="dim")
        line.append(f"{entry.result:<8}", style=STYLES.get(entry.result, ""))
        line.append(f"{entry.action:<18}", style="bold").append(f"{entry.target or EMPTY}")
        console.print(
            line.append(f"  by {entry.actor}{f' from {entry.address}' if entry.address else ''}", style="dim")
        )
        for line_text in filter(None, (entry.reason, cell(entry.details) if entry.details else None)):
            console.print(Text(f"{'':>21}{line_text}", style="dim"))
