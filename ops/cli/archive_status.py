"""`flask ops archive status` and `plan`: reports that change nothing."""

from uuid import UUID

import click

from ops.archive.plan import plan as make_plan
from ops.archive.status import status as read_status
from ops.cli.base import command, json_option, print_report


@command("plan")
@click.option("--resume", type=click.UUID, metavar="RUN", help="Plan the rest of this run.")
@json_option
def plan(resume: UUID | None, json: bool) -> None:
    """Show what a run would archive."""
    print_report("archive plan", make_plan(resume=resume), json=json)


@command("status")
@click.option(
    "--runs", "latest", type=click.IntRange(0, 1000), default=5, show_default=True, help="Maximum number of runs."
)
@json_option
def status(latest: int, json: bool) -> None:
    """Show the backlog, the archived conversations and the latest runs.

    Exit code 1 if the archival does not keep up.
    """
    report = read_status(latest=latest)
    print_report("archive status", report, json=json, level=report.level)
