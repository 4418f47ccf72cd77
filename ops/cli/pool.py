"""`flask ops pool`: the connections to the database."""

from rich.console import Console

from ops.checks.context import open_check_context
from ops.cli.base import command, json_option, print_report
from ops.cli.rendering import table
from ops.doctor.checks.pool import NEARLY_FULL, PoolReport, read_pool
from ops.levels import Level


@command("pool")
@json_option
def pool(json: bool) -> None:
    """Show the connections to the database.

    Groups them by application, role and address, and compares their number with the limits. Exit code 1 if a limit is
    nearly reached. The pool of each web worker is in the metrics (parley_db_pool_connections).
    """
    with open_check_context() as context:
        report = read_pool(context)
    full = any(limit.used >= NEARLY_FULL * limit.maximum for limit in report.limits)
    print_report("pool", report, json=json, level=Level.WARNING if full else Level.OK, view=lambda c: _print(c, report))


def _print(console: Console, report: PoolReport) -> None:
    for limit in report.limits:
        console.print(f"{limit.used} of {limit.maximum} connections of {limit.scope} are in use.")
    console.print(f"With these settings the processes of one host can open {report.required} connections.\n")
    rows = [
        {
            "application": client.application,
            "role": client.role,
            "from": client.address,
            "connections": client.connections,
            "active": client.active,
            "idle": client.idle,
            "in transaction": client.in_transaction,
            "waiting": client.waiting,
        }
        for client in report.clients
    ]
    table(console, rows)
