"""Reports of past runs, as the history keeps them: plain data, shown in a line each, or in whole."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from ops.cli.rendering import STYLES, cell, show, table, words
from ops.levels import Level

MOST = 8  # values in a line
ROWS = 10


def line(report: Mapping[str, Any] | None) -> str:
    """A report in a few words: its numbers and sentences, without what is inside of them."""
    if not report:
        return ""
    if isinstance(parts := report.get("parts"), list):
        return f"{report.get('level')}: " + ", ".join(f"{part['part']} {part['level']}" for part in parts)
    if isinstance(answers := report.get("answers"), list):
        wrong = ", ".join(f"{answer['check']} {answer['level']}" for answer in answers)
        return f"{report.get('level')}: {report.get('ok')} of {report.get('asked')} ok" + (
            f"; {wrong}" if wrong else ""
        )
    plain = {name: value for name, value in report.items() if _is_plain(value)}
    return ", ".join(f"{name} {cell(value)}" for name, value in list(plain.items())[:MOST])


def show_report(console: Console, report: Mapping[str, Any] | None) -> None:
    """The whole of it."""
    if not report:
        console.print("It left no report.", style="dim")
    elif isinstance(report.get("parts"), list):
        show_duty(console, report)
    elif isinstance(report.get("answers"), list):
        show_answers(console, report["answers"])
        console.print(line({**report, "answers": []}))
    else:
        show(console, report)


def show_duty(console: Console, report: Mapping[str, Any]) -> None:
    """A duty, part by part: what it says, what its checks found, the first rows of its figures."""
    for part in report["parts"]:
        level = Level(part["level"])
        heading = words(f"{level.upper() if level is Level.CRITICAL else level:>12}  ", style=STYLES[level])
        console.print(heading.append(part["part"], style="bold"))
        console.print(words(f"{'':>14}{part['says']}"))
        show_answers(console, part["answers"])
        if rows := part["rows"]:
            table(console, [{name: _short(value) for name, value in row.items()} for row in rows[:ROWS]])
        console.print()


def show_answers(console: Console, answers: Sequence[Mapping[str, Any]]) -> None:
    """Answers of checks that were not simply ok."""
    for answer in answers:
        level = Level(answer["level"])
        console.print(words(f"{'':>14}{level}: {answer['check']}", style=STYLES[level]))
        for finding in answer["findings"]:
            console.print(words(f"{'':>16}{finding['what']}"))
            if finding["remedy"]:
                console.print(words(f"{'':>16}→ {finding['remedy']}", style="cyan"))
        if answer["reason"]:
            console.print(words(f"{'':>16}{answer['reason']}"))
        if answer["remedy"]:
            console.print(words(f"{'':>16}→ {answer['remedy']}", style="cyan"))


def _is_plain(value: Any) -> bool:
    return not isinstance(value, list | dict) or (
        isinstance(value, dict) and len(value) <= 3 and all(_is_plain(each) for each in value.values())
    )


def _short(value: Any) -> Any:
    return f"{value[:60]}…" if isinstance(value, str) and len(value) > 60 else value
