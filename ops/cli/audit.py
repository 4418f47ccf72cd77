"""`flask ops audit`: who did what."""

from collections.abc import Sequence

import click
from rich.console import Console
from rich.text import Text

from ops.audit import AuditedAct, acts
from ops.cli.frame import json_option, ops, tell
from ops.cli.rendering import EMPTY, cell

STYLES = {"done": "green", "refused": "yellow", "failed": "bold red", "begun": "magenta"}


@ops.command("audit")
@click.option("--on", "target", help="Only what was done to this: a user's id, a job's name ...")
@click.option("--action", help="Only this, such as user.disable.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@json_option
def audit(target: str | None, action: str | None, limit: int, json: bool) -> None:
    """What operators did, the newest first."""
    found = acts(target=target, action=action, limit=limit)
    tell("audit", found, json=json, view=lambda console: _show(console, found))


def _show(console: Console, found: Sequence[AuditedAct]) -> None:
    """A line for each: when, how it ended, who did what to whom; below it, why and what else is known."""
    if not found:
        console.print("Nothing.", style="dim")
    for act in found:
        line = Text(f"{cell(act.created_at)}  ", style="dim")
        line.append(f"{act.result:<8}", style=STYLES.get(act.result, ""))
        line.append(f"{act.action:<18}", style="bold").append(f"{act.target or EMPTY}")
        console.print(line.append(f"  by {act.actor}{f' from {act.address}' if act.address else ''}", style="dim"))
        for told in filter(None, (act.reason, cell(act.details) if act.details else None)):
            console.print(Text(f"{'':>21}{told}", style="dim"))
