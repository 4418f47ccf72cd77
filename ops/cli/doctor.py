"""`flask ops doctor`: what is wrong, what could not be judged, and which command mends it."""

from collections.abc import Sequence

import click
from rich.console import Console

from ops import doctor as clinic
from ops.cli.frame import json_option, ops, tell
from ops.cli.rendering import STYLES, cell, words
from ops.levels import Level, worst

NAMED = 12  # checks of one level in the last lines
MARKS = {Level.OK: "ok", Level.WARNING: "warning", Level.CRITICAL: "CRITICAL", Level.UNKNOWN: "cannot judge"}


@ops.command("doctor")
@click.option("--only", multiple=True, metavar="CHECK", help="Only this check or group of checks; may be repeated.")
@click.option("--thorough", is_flag=True, help="Ask also what takes long to answer.")
@click.option(
    "--fail-on",
    type=click.Choice(["warning", "critical"]),
    default="warning",
    show_default=True,
    help="From which level on the exit code tells.",
)
@click.option("--list", "listed", is_flag=True, help="List the checks without asking them.")
@json_option
def doctor(only: Sequence[str], thorough: bool, fail_on: str, listed: bool, json: bool) -> None:
    """Examine everything: database, migrations, indexes, pool, beat, backups, archive, provider, settings."""
    names = [name for each in only for name in each.split(",")]
    try:
        checks = clinic.select(names, thorough=thorough or listed)
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from None
    if listed:
        tell(
            "doctor --list", [{"check": each.id, "asks": each.asks, "worst": each.worst} for each in checks], json=json
        )
        return
    examination = clinic.examine(checks=checks)
    levels = [answer.level for answer in examination.answers]
    if fail_on == "critical":
        levels = [level for level in levels if level is not Level.WARNING]
    tell(
        "doctor",
        examination,
        json=json,
        level=worst(levels),
        view=lambda console: show_examination(console, examination),
    )


def show_examination(console: Console, examination: clinic.Examination) -> None:
    """Each answer for people, with what to do about it. What many do not know for the same reason is said once."""
    said = set[str]()
    for answer in examination.answers:
        line = words(f"{MARKS[answer.level]:>12}  ", style=STYLES[answer.level])
        console.print(line.append(f"{answer.check:<28}", style="bold").append(answer.asks, style="dim"))
        if answer.reason in said and not answer.findings:
            continue
        if answer.reason:
            said.add(answer.reason)
            _under(console, answer.reason)
        if answer.remedy:
            _under(console, f"→ {answer.remedy}", style="cyan")
        for finding in answer.findings:
            _under(console, finding.what, style=STYLES[finding.level])
            if finding.evidence:
                _under(console, ", ".join(f"{name} {cell(value)}" for name, value in finding.evidence.items()), "dim")
            for next_step in filter(None, (finding.remedy, finding.sql)):
                _under(console, f"→ {next_step}", style="cyan")
        if answer.level is not Level.OK:
            _under(console, f"see {answer.runbook}", style="dim")
    console.print()
    for level in (Level.UNKNOWN, Level.WARNING, Level.CRITICAL):
        if named := [answer.check for answer in examination.answers if answer.level is level]:
            more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
            console.print(words(f"{MARKS[level]}: {', '.join(named[:NAMED])}{more}", style=STYLES[level]))
    counts = {level: sum(answer.level is level for answer in examination.answers) for level in Level}
    told = ", ".join(f"{count} {MARKS[level].lower()}" for level, count in counts.items() if count)
    console.print(words(f"{told or 'No check was asked'}.", style=STYLES[examination.level]))


def _under(console: Console, text: str, style: str = "") -> None:
    console.print(words(f"{'':>14}{text}", style=style))
