"""`flask ops index check`."""

from collections.abc import Sequence

import click

from ops.checks.selection import choose_checks
from ops.cli.base import command, json_option, print_report
from ops.cli.doctor_report import print_doctor_report
from ops.doctor.index_registry import INDEX_CHECKS
from ops.doctor.run import run_doctor


@command("check")
@click.option("--only", multiple=True, metavar="CHECK", help="Only this check; can be repeated.")
@json_option
def check(only: Sequence[str], json: bool) -> None:
    """Run all checks of indexes and tables, including corruption, for up to a minute."""
    names = [name for option in only for name in option.split(",")]
    try:
        checks = choose_checks(INDEX_CHECKS, names, thorough=True)
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from None
    report = run_doctor(checks=checks)
    print_report(
        "index check",
        report,
        json=json,
        level=report.level,
        view=lambda console: print_doctor_report(console, report),
    )
