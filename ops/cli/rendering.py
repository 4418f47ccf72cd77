"""Reports as people and programs read them."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ops.levels import Level
from ops.words import size, span

SCHEMA = "parley.ops/1"  # what a program may rely on; another number is another shape
STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.CRITICAL: "bold red", Level.UNKNOWN: "magenta"}
EMPTY = "–"
GAP = 2  # between two columns
PROSE = 24  # columns below which a sentence is not folded

__all__ = ["EMPTY", "SCHEMA", "STYLES", "as_json", "cell", "show", "size", "span", "table", "words"]


def as_json(command: str, level: Level, report: Any) -> str:
    """`{"schema", "command", "level", "report"}`, indented. Times are ISO 8601, spans seconds."""
    document = {"schema": SCHEMA, "command": command, "level": level, "report": report}
    return orjson.dumps(document, default=_plain, option=orjson.OPT_INDENT_2).decode()


def show(console: Console, report: Any) -> None:
    """A dataclass as its fields, each list of things in it as a table; a list as a table alone."""
    if isinstance(report, Sequence) and not isinstance(report, str):
        table(console, [_fields(each) for each in report])
        return
    plain = {name: value for name, value in _fields(report).items() if not _is_table(value)}
    grid = Table.grid(padding=(0, GAP))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in plain.items():
        grid.add_row(Text(_words(name), style="dim"), Text(cell(value)))
    console.print(grid)
    for name, value in _fields(report).items():
        if _is_table(value) and value:
            console.print(Text(f"\n{_words(name)}", style="bold"))
            table(console, [_fields(each) for each in value])


def table(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with the same keys; says so if there are none. Where they are wider than the screen, one below the other."""
    if not rows:
        console.print("Nothing.", style="dim")
        return
    drawn = Table(box=None, header_style="dim", pad_edge=False, padding=(0, GAP, 0, 0))
    least = -GAP
    for name in rows[0]:
        numbers = all(isinstance(row[name], int | float | timedelta) for row in rows)
        prose = any(isinstance(row[name], str | Mapping | list | tuple) and " " in cell(row[name]) for row in rows)
        widest = max(len(cell(row[name])) for row in rows)
        least += GAP + max(len(_words(name)), min(widest, PROSE) if prose else widest)
        justify: Literal["right", "left"] = "right" if numbers else "left"
        drawn.add_column(_words(name), justify=justify, overflow="fold", no_wrap=not prose)
    if least > console.width:
        _one_below_the_other(console, rows)
        return
    for row in rows:
        drawn.add_row(*(_styled(value) for value in row.values()))
    console.print(drawn)


def _one_below_the_other(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Each row as its first value, so that an id can be copied, and below it whatever else is known."""
    for row in rows:
        first, *others = row
        console.print(_styled(row[first]), overflow="fold", style="bold")
        known = Text()
        for name in others:
            if (value := _styled(row[name])).plain != EMPTY:
                known.append(", " if known else "").append(f"{_words(name)} ", style="dim").append_text(value)
        if known:
            console.print(Padding(known, (0, 0, 0, 4)))


def words(text: str, style: str = "") -> Text:
    """A line for people. What came from elsewhere may hold what a terminal would take for a command."""
    return Text(printable(text), style=style)


def printable(text: str) -> str:
    """`text` with control characters written out, but for ends of lines."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


def cell(value: Any) -> str:
    """One value in a few words: times to the second in UTC, spans in the unit that fits."""
    if value is None or value == "" or value == () or value == {}:
        return EMPTY
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, timedelta):
        return span(value)
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return cell(_fields(value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(cell(each) for each in value)
    return printable(str(value))


def _styled(value: Any) -> Text:
    return Text(cell(value), style=STYLES.get(value, "") if isinstance(value, Level) else "")


def _fields(report: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(report) and not isinstance(report, type):
        return {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
    return dict(report)


def _is_table(value: Any) -> bool:
    """Whether it is a list of things with names."""
    return isinstance(value, list | tuple) and all(dataclasses.is_dataclass(e) or isinstance(e, Mapping) for e in value)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return cell(_fields(value))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
