"""The doctor's report as text: findings and the commands that fix them."""

from rich.console import Console

from ops.checks.findings import Finding
from ops.cli.rendering import STYLES, cell, words
from ops.doctor.run import DoctorReport
from ops.levels import Level

MAX_NAMES = 12  # checks per level in the summary
MARKS = {Level.OK: "ok", Level.WARNING: "warning", Level.CRITICAL: "CRITICAL", Level.UNKNOWN: "unknown"}


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
