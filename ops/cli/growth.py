"""`flask ops growth`: how the tables grew."""

from datetime import timedelta

import click
from rich.console import Console

from ops.cli.frame import json_option, ops, tell
from ops.cli.rendering import cell, size, table
from ops.doctor import probing
from ops.figures.growth import GrowthReport, growth


@ops.command("growth")
@click.option("--weeks", type=click.FloatRange(0.2, 52), default=4, show_default=True, help="How far back.")
@json_option
def show_growth(weeks: float, json: bool) -> None:
    """How much each table grew, with its indexes, and what that makes a day."""
    with probing() as probe:
        now = probe.now
        report = growth(probe.connection, since=now - timedelta(weeks=weeks), now=now)
    tell("growth", report, json=json, view=lambda console: _show(console, report))


def _show(console: Console, report: GrowthReport) -> None:
    why = f" ({report.why})" if report.why else ""
    console.print(
        f"Since {cell(report.since)} UTC, {report.days:.1f} days{why}: {size(report.grown_bytes)} more, "
        f"{size(report.bytes_a_day)} a day; {size(report.database_bytes)} in all.\n"
    )
    rows = [
        {
            "table": each.table,
            "size": size(each.bytes),
            "grown": size(each.grown_bytes),
            "by": "new" if each.grown_share is None else f"{each.grown_share:.1%}",
            "rows": "not counted" if each.rows is None else f"{each.rows:,}",
            "more rows": "–" if each.grown_rows is None else f"{each.grown_rows:,}",
        }
        for each in report.tables
    ]
    table(console, rows)
