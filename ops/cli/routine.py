"""`flask ops routine`: the daily, weekly or monthly duty, now."""

import click

from ops.catalogue import DUTIES
from ops.cli.frame import json_option, ops, run_now, tell
from ops.cli.reports import show_duty
from ops.duties.run import named
from ops.levels import Level


@ops.command("routine")
@click.argument("duty", type=click.Choice([duty.name for duty in DUTIES]))
@json_option
def routine(duty: str, json: bool) -> None:
    """Do what should be looked at every day, week or month, and keep the report in the history.

    The beat does the same; `flask ops jobs history --job duties.daily` shows what it found.
    """
    ended = run_now(named(duty).job)
    report = ended.report or {}
    tell(f"routine {duty}", report, json=json, level=Level(report["level"]), view=lambda c: show_duty(c, report))
