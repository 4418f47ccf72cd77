"""`flask ops slow`: which statements take the database's time."""

from datetime import timedelta

import click
from rich.console import Console

from ops.cli.frame import Span, json_option, ops, tell
from ops.cli.rendering import cell, table
from ops.doctor import probing
from ops.figures.slow import SlowReport, is_ours, slow

ORDERS = {"total": "total_seconds", "mean": "mean_ms", "calls": "calls", "longest": "longest_ms"}


@ops.command("slow")
@click.option("--since", type=Span(), default="24h", show_default=True, help="How far back, such as 90min, 24h or 7d.")
@click.option("--by", type=click.Choice([*ORDERS]), default="total", show_default=True, help="What comes first.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--all", "everything", is_flag=True, help="Also statements that are not Parley's, and the doctor's own.")
@json_option
def show_slow(since: timedelta, by: str, limit: int, everything: bool, json: bool) -> None:
    """What took the database's time, by the names of Parley's statements.

    PostgreSQL counts without a window; it is made from the figures that the beat writes down every hour.
    """
    with probing() as probe:
        now = probe.now
        report = slow(probe.connection, since=now - since, until=now)
    statements = [each for each in report.statements if everything or is_ours(each)]
    statements.sort(key=lambda each: float(getattr(each, ORDERS[by])), reverse=True)
    shown = SlowReport(
        since=report.since,
        until=report.until,
        why=report.why,
        calls=report.calls,
        total_seconds=report.total_seconds,
        statements=tuple(statements[:limit]),
    )
    tell("slow", shown, json=json, view=lambda console: _show(console, shown))


def _show(console: Console, report: SlowReport) -> None:
    why = f" ({report.why})" if report.why else ""
    console.print(f"Since {cell(report.since)} UTC{why}: {report.calls:,} calls took {report.total_seconds:,.1f} s.\n")
    rows = [
        {
            "statement": each.statement,
            "calls": f"{each.calls:,}",
            "mean ms": f"{each.mean_ms:,.2f}",
            "longest ms": f"{each.longest_ms:,.0f}",
            "total s": f"{each.total_seconds:,.1f}",
            "share": f"{each.share:.1%}",
        }
        for each in report.statements
    ]
    table(console, rows)
