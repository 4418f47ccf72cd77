"""`flask ops pool`: who is connected to the database."""

from rich.console import Console

from ops.checks.pool import NEARLY, PoolReport, read_pool
from ops.cli.frame import json_option, ops, tell
from ops.cli.rendering import table
from ops.doctor import probing
from ops.levels import Level


@ops.command("pool")
@json_option
def show_pool(json: bool) -> None:
    """Connections by application, account and address; how many there may be, and how many the settings allow.

    Exit code 1 when a limit is nearly reached. What each web worker's own pool does is in the metrics
    (parley_db_pool_connections).
    """
    with probing() as probe:
        report = read_pool(probe)
    full = any(limit.used >= NEARLY * limit.most for limit in report.limits)
    tell("pool", report, json=json, level=Level.WARNING if full else Level.OK, view=lambda c: _show(c, report))


def _show(console: Console, report: PoolReport) -> None:
    for limit in report.limits:
        console.print(f"{limit.used} of {limit.most} connections of {limit.of} are taken.")
    console.print(f"The processes of one host may open {report.wanted} with these settings.\n")
    rows = [
        {
            "application": each.application,
            "account": each.account,
            "from": each.address,
            "connections": each.connections,
            "active": each.active,
            "idle": each.idle,
            "in transaction": each.in_transaction,
            "waiting": each.waiting,
        }
        for each in report.clients
    ]
    table(console, rows)
