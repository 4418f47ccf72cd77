"""Stored reports of job runs: plain data, printed in one line or in full."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from ops.cli.rendering import STYLES, cell, show, table, words
from ops.levels import Level

MAX_VALUES = 8  # in a line
MAX_ROWS = 10  # of a section


def line(report: Mapping[str, Any] | None) -> str:
    """Summarize a report in one line: its simple values, or the levels of its parts."""
    if not report:
        return ""
    if isinstance(parts := report.get("parts"), list):
        return f"{report.get('level')}: " + ", ".join(f"{part['part']} {part['level']}" for part in parts)
    if isinstance(results := report.get("results"), list):
        problems = ", ".join(f"{result['check']} {_state(result)}" for result in results)
        return f"{report.get('level')}: {report.get('ok')} of {report.get('checked')} ok" + (
            f"; {problems}" if problems else ""
        )
    values = {name: value for name, value in report.items() if _is_simple(value)}
    return ", ".join(f"{name} {cell(value)}" for name, value in list(values.items())[:MAX_VALUES])


def print_report_details(console: Console, report: Mapping[str, Any] | None) -> None:
    """Print the full report."""
    if not report:
        console.print("The run has no report.", style="dim")
    elif isinstance(report.get("parts"), list):
        print_routine(console, report)
    elif isinstance(report.get("results"), list):
        print_results(console, report["results"])
        console.print(line({**report, "results": []}))
    else:
        show(console, report)


def print_routine(console: Console, report: Mapping[str, Any]) -> None:
    """Print the report of a routine by parts: summary, results of checks, first rows."""
    for part in report["parts"]:
        level = Level(part["level"])
        heading = words(f"{level.upper() if level is Level.CRITICAL else level:>12}  ", style=STYLES[level])
        console.print(heading.append(part["part"], style="bold"))
        console.print(words(f"{'':>14}{part['summary']}"))
        print_results(console, part["results"])
        if rows := part["rows"]:
            table(console, [{name: _short(value) for name, value in row.items()} for row in rows[:MAX_ROWS]])
        console.print()


def print_results(console: Console, results: Sequence[Mapping[str, Any]]) -> None:
    """Print the results of checks that are not ok."""
    for result in results:
        level = Level(result["level"])
        console.print(words(f"{'':>14}{_state(result)}: {result['check']}", style=STYLES[level]))
        for finding in result["findings"]:
            console.print(words(f"{'':>16}{finding['message']}"))
            if accepted := finding.get("acknowledgement"):
                console.print(words(f"{'':>16}acknowledged until {accepted['until']}: {accepted['reason']}", "dim"))
            if finding["remedy"]:
                console.print(words(f"{'':>16}→ {finding['remedy']}", style="cyan"))
        if result["reason"]:
            console.print(words(f"{'':>16}{result['reason']}"))
        if result["remedy"]:
            console.print(words(f"{'':>16}→ {result['remedy']}", style="cyan"))


def _state(result: Mapping[str, Any]) -> str:
    """Return the level of a stored result; one that is ok is stored only if its findings are acknowledged."""
    return "acknowledged" if result["level"] == Level.OK else str(result["level"])


def _is_simple(value: Any) -> bool:
    return not isinstance(value, list | dict) or (
        isinstance(value, dict) and len(value) <= 3 and all(_is_simple(item) for item in value.values())
    )


def _short(value: Any) -> Any:
    return f"{value[:60]}…" if isinstance(value, str) and len(value) > 60 else value
