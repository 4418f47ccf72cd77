"""`flask ops audit`: who did what."""

import click

from ops.audit import acts
from ops.cli.frame import json_option, ops, tell


@ops.command("audit")
@click.option("--on", "target", help="Only what was done to this: a user's id, a job's name ...")
@click.option("--action", help="Only this, such as user.disable.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@json_option
def audit(target: str | None, action: str | None, limit: int, json: bool) -> None:
    """What operators did, the newest first."""
    tell("audit", acts(target=target, action=action, limit=limit), json=json)
