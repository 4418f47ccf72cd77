"""`flask ops doctor`: run the checks; print findings and the commands that fix them."""

from collections.abc import Sequence

import click
from flask.cli import AppGroup, with_appcontext

from ops.catalogue.jobs import RUN_DOCTOR, RUN_DOCTOR_THOROUGH
from ops.checks.declaration import Check
from ops.cli import acknowledgements
from ops.cli.base import json_option, print_report
from ops.cli.doctor_report import print_doctor_report
from ops.doctor.registry import select_checks
from ops.doctor.run import DoctorReport, run_doctor, summarize
from ops.levels import Level, worst
from ops.runs.run import recorded_command

NEEDED_TO_RECORD = ("connection.reachable", "connection.writable", "migrations.current")


@click.group("doctor", cls=AppGroup, invoke_without_command=True)
@click.pass_context
@click.option("--only", multiple=True, metavar="CHECK", help="Only this check or group; can be repeated.")
@click.option("--thorough", is_flag=True, help="Include checks that read whole indexes.")
@click.option(
    "--fail-on",
    type=click.Choice(["warning", "critical"]),
    default="warning",
    show_default=True,
    help="Lowest level that gives a non-zero exit code.",
)
@click.option("--list", "listed", is_flag=True, help="List the checks without running them.")
@json_option
@with_appcontext
def doctor(ctx: click.Context, only: Sequence[str], thorough: bool, fail_on: str, listed: bool, json: bool) -> None:
    """Check the installation.

    Covers database, migrations, indexes, pool, beat, backups, archive, provider and settings.
    """
    if ctx.invoked_subcommand is not None:
        return
    names = [name for option in only for name in option.split(",")]
    try:
        checks = select_checks(names, thorough=thorough or listed)
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from None
    if listed:
        print_report(
            "doctor --list",
            [
                {"check": candidate.id, "question": candidate.question, "severity": candidate.severity}
                for candidate in checks
            ],
            json=json,
        )
        return
    report = _run_and_record(checks, is_whole=not names, thorough=thorough)
    levels = [result.level for result in report.results]
    if fail_on == "critical":
        levels = [level for level in levels if level is not Level.WARNING]
    print_report(
        "doctor",
        report,
        json=json,
        level=worst(levels),
        view=lambda console: print_doctor_report(console, report),
    )


def _run_and_record(checks: Sequence[Check], *, is_whole: bool, thorough: bool) -> DoctorReport:
    """Run the checks; if they are all of a job, record them as a run of it, provided that the database takes it."""
    with recorded_command(RUN_DOCTOR) as record, recorded_command(RUN_DOCTOR_THOROUGH) as record_thorough:
        report = run_doctor(checks=checks)
        if is_whole and all(result.level is Level.OK for result in report.results if result.check in NEEDED_TO_RECORD):
            thorough_ids = {check.id for check in checks if check.thorough}
            record(summarize([result for result in report.results if result.check not in thorough_ids]))
            if thorough:
                record_thorough(summarize([result for result in report.results if result.check in thorough_ids]))
    return report


acknowledgements.add_to(doctor)
