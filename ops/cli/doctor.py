"""`flask ops doctor`: run the checks; print findings and the commands that fix them."""

from collections.abc import Sequence

import click
from flask.cli import AppGroup, with_appcontext
from rich.console import Console

from ops.catalogue.jobs import RUN_DOCTOR, RUN_DOCTOR_THOROUGH
from ops.checks.declaration import Check
from ops.checks.findings import Finding
from ops.cli import acknowledgements
from ops.cli.base import json_option, print_report
from ops.cli.rendering import STYLES, cell, words
from ops.doctor.registry import select_checks
from ops.doctor.run import DoctorReport, run_doctor, summarize
from ops.levels import Level, worst
from ops.runs.run import recorded_command

NEEDED_TO_RECORD = ("connection.reachable", "connection.writable", "migrations.current")
MAX_NAMES = 12  # checks per level in the summary
MARKS = {Level.OK: "ok", Level.WARNING: "warning", Level.CRITICAL: "CRITICAL", Level.UNKNOWN: "unknown"}


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


def print_doctor_report(console: Console, report: DoctorReport) -> None:
    """Print all results with their remedies; a reason that several checks share is printed once."""
    printed_reasons = set[str]()
    for result in report.results:
        line = words(f"{MARKS[result.level]:>12}  ", style=STYLES[result.level])
        console.print(line.append(f"{result.check:<28}", style="bold").append(result.question, style="dim"))
        if result.reason in printed_reasons and not result.findings:
            continue
        if result.reason:
            printed_reasons.add(result.reason)
            _print_indented(console, result.reason)
        if result.remedy:
            _print_indented(console, f"→ {result.remedy}", style="cyan")
        for finding in result.findings:
            _print_indented(console, finding.message, style="dim" if finding.is_acknowledged else STYLES[finding.level])
            _print_acknowledgement(console, result.check, finding)
            if finding.evidence:
                _print_indented(
                    console, ", ".join(f"{name} {cell(value)}" for name, value in finding.evidence.items()), "dim"
                )
            for next_step in filter(None, (finding.remedy, finding.sql)):
                _print_indented(console, f"→ {next_step}", style="cyan")
        if result.level is not Level.OK or result.findings:
            _print_indented(console, f"see {result.runbook}", style="dim")
    console.print()
    for level in (Level.UNKNOWN, Level.WARNING, Level.CRITICAL):
        if names := [result.check for result in report.results if result.level is level]:
            more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
            console.print(words(f"{MARKS[level]}: {', '.join(names[:MAX_NAMES])}{more}", style=STYLES[level]))
    counts = {level: sum(result.level is level for result in report.results) for level in Level}
    summary = ", ".join(f"{count} {MARKS[level].lower()}" for level, count in counts.items() if count)
    if accepted := sum(finding.is_acknowledged for result in report.results for finding in result.findings):
        summary += f"; {accepted} findings are acknowledged" if accepted > 1 else "; 1 finding is acknowledged"
    console.print(words(f"{summary or 'No check was run'}.", style=STYLES[report.level]))


def _print_acknowledgement(console: Console, check: str, finding: Finding) -> None:
    if (accepted := finding.acknowledgement) is None:
        return
    if finding.is_acknowledged:
        text = f"acknowledged until {accepted.until} by {accepted.by}: {accepted.reason}"
    elif not accepted.active:
        text = f"the acknowledgement by {accepted.by} ended on {accepted.until}: {accepted.reason}"
    else:
        text = f"acknowledged by {accepted.by} as {accepted.level}; it is worse now"
    _print_indented(console, text, style="dim")


def _print_indented(console: Console, text: str, style: str = "") -> None:
    console.print(words(f"{'':>14}{text}", style=style))


acknowledgements.add_to(doctor)
