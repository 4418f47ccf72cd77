"""`flask ops growth`: the growth of tables."""

from datetime import timedelta

import click
from rich.console import Console

from ops.checks.context import open_check_context
from ops.cli.base import command, json_option, print_report
from ops.cli.rendering import cell, table
from ops.formatting import format_size
from ops.stats.growth import GrowthReport, table_growth


@command("growth")
@click.option("--weeks", type=click.FloatRange(0.2, 52), default=4, show_default=True, help="Period until now.")
@json_option
def show_growth(weeks: float, json: bool) -> None:
    """Show the growth of tables.

    Sizes include indexes; the growth per day is their average over the period.
    """
    with open_check_context() as context:
        now = context.now
        report = table_growth(context.connection, since=now - timedelta(weeks=weeks), now=now)
    print_report("growth", report, json=json, view=lambda console: _print(console, report))


def _print(console: Console, report: GrowthReport) -> None:
    reason = f" ({report.reason})" if report.reason else ""
    console.print(
        f"Since {cell(report.since)} UTC, {report.days:.1f} days{reason}: grown by {format_size(report.grown_bytes)}, "
        f"{format_size(report.bytes_per_day)} per day, to {format_size(report.database_bytes)}.\n"
    )
    rows = [
        {
            "table": table_growth.table,
            "size": format_size(table_growth.bytes),
            "grown": format_size(table_growth.grown_bytes),
            "by": "new" if table_growth.grown_share is None else f"{table_growth.grown_share:.1%}",
            "rows": "not counted" if table_growth.rows is None else f"{table_growth.rows:,}",
            "more rows": "–" if table_growth.grown_rows is None else f"{table_growth.grown_rows:,}",
        }
        for table_growth in report.tables
    ]
    table(console, rows)
