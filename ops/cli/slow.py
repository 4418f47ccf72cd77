"""`flask ops slow`: the statements that take the most time."""

from datetime import timedelta

import click
from rich.console import Console

from ops.checks.context import open_check_context
from ops.cli.base import DurationType, command, json_option, print_report
from ops.cli.rendering import cell, table
from ops.stats.slow import SlowReport, is_own, slow_statements

ORDERS = {"total": "total_seconds", "mean": "mean_ms", "calls": "calls", "max": "max_ms"}


@command("slow")
@click.option(
    "--since",
    type=DurationType(),
    default="24h",
    show_default=True,
    help="Period until now, for example 90min, 24h or 7d.",
)
@click.option("--by", type=click.Choice([*ORDERS]), default="total", show_default=True, help="Sort order.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Maximum number of results.")
@click.option(
    "--all", "everything", is_flag=True, help="Include statements that are not Parley's, and those of the doctor."
)
@json_option
def show_slow(since: timedelta, by: str, limit: int, everything: bool, json: bool) -> None:
    """Show the statements that take the most time.

    Statements are shown by name. The period is computed from the counters that stats.record stores every hour.
    """
    with open_check_context() as context:
        now = context.now
        report = slow_statements(context.connection, since=now - since, until=now)
    statements = [statement for statement in report.statements if everything or is_own(statement)]
    statements.sort(key=lambda statement: float(getattr(statement, ORDERS[by])), reverse=True)
    limited = SlowReport(
        since=report.since,
        until=report.until,
        reason=report.reason,
        calls=report.calls,
        total_seconds=report.total_seconds,
        statements=tuple(statements[:limit]),
    )
    print_report("slow", limited, json=json, view=lambda console: _print(console, limited))


def _print(console: Console, report: SlowReport) -> None:
    reason = f" ({report.reason})" if report.reason else ""
    console.print(
        f"Since {cell(report.since)} UTC{reason}: {report.calls:,} calls took {report.total_seconds:,.1f} s.\n"
    )
    rows = [
        {
            "statement": statement.name,
            "calls": f"{statement.calls:,}",
            "mean ms": f"{statement.mean_ms:,.2f}",
            "max ms": f"{statement.max_ms:,.0f}",
            "total s": f"{statement.total_seconds:,.1f}",
            "share": f"{statement.share:.1%}",
        }
        for statement in report.statements
    ]
    table(console, rows)
