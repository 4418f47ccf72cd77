"""`flask ops routine`: run the daily, weekly or monthly routine."""

import click

from ops.cli.actions import run_inline
from ops.cli.base import command, json_option, print_report
from ops.cli.reports import print_routine
from ops.levels import Level
from ops.routines.registry import ROUTINES, routine_named


@command("routine")
@click.argument("name", type=click.Choice([routine.name for routine in ROUTINES]), metavar="ROUTINE")
@json_option
def routine(name: str, json: bool) -> None:
    """Run the daily, weekly or monthly routine.

    Beat runs them on schedule; `flask ops jobs history --job routines.daily` shows the reports.
    """
    report = run_inline(routine_named(name).job).report or {}
    print_report(
        f"routine {name}", report, json=json, level=Level(report["level"]), view=lambda c: print_routine(c, report)
    )
