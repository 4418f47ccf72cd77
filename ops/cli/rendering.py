"""Reports as text and as JSON."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ops.formatting import format_duration
from ops.levels import Level

SCHEMA = "parley.ops/2"  # the version changes with every incompatible change
STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.CRITICAL: "bold red", Level.UNKNOWN: "magenta"}
EMPTY = "–"
GAP = 2  # spaces between columns
MIN_TEXT_WIDTH = 24  # of a column with sentences, which are folded


def report_console(**options: Any) -> Console:
    """Return a console for reports, which prints numbers without colors and `:star:` as it is."""
    return Console(highlight=False, emoji=False, **options)


def as_json(command: str, level: Level, report: Any) -> str:
    """Return `{"schema", "command", "level", "report"}` as indented JSON: times in ISO 8601, durations in seconds."""
    document = {"schema": SCHEMA, "command": command, "level": level, "report": report}
    return orjson.dumps(document, default=_plain, option=orjson.OPT_INDENT_2).decode()


def show(console: Console, report: Any) -> None:
    """Print a dataclass as fields, and its lists of objects as tables; print a list as a table."""
    if isinstance(report, Sequence) and not isinstance(report, str):
        table(console, [_fields(row) for row in report])
        return
    plain = {name: value for name, value in _fields(report).items() if not _is_table(value)}
    grid = Table.grid(padding=(0, GAP))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in plain.items():
        grid.add_row(Text(_label(name), style="dim"), Text(cell(value)))
    console.print(grid)
    for name, value in _fields(report).items():
        if _is_table(value) and value:
            console.print(Text(f"\n{_label(name)}", style="bold"))
            table(console, [_fields(row) for row in value])


def table(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with the same keys as a table, or one below the other if the table is too wide."""
    if not rows:
        console.print("None.", style="dim")
        return
    grid = Table(box=None, header_style="dim", pad_edge=False, padding=(0, GAP, 0, 0))
    min_width = -GAP
    for name in rows[0]:
        numbers = all(isinstance(row[name], int | float | timedelta) for row in rows)
        has_text = any(isinstance(row[name], str | Mapping | list | tuple) and " " in cell(row[name]) for row in rows)
        widest = max(len(cell(row[name])) for row in rows)
        min_width += GAP + max(len(_label(name)), min(widest, MIN_TEXT_WIDTH) if has_text else widest)
        justify: Literal["right", "left"] = "right" if numbers else "left"
        grid.add_column(_label(name), justify=justify, overflow="fold", no_wrap=not has_text)
    if min_width > console.width:
        _print_as_blocks(console, rows)
        return
    for row in rows:
        grid.add_row(*(_styled(value) for value in row.values()))
    console.print(grid)


def _print_as_blocks(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print each row as its first value, so that an id can be copied, with the other values below it."""
    for row in rows:
        first, *others = row
        console.print(_styled(row[first]), overflow="fold", style="bold")
        details = Text()
        for name in others:
            if (value := _styled(row[name])).plain != EMPTY:
                details.append(", " if details else "").append(f"{_label(name)} ", style="dim").append_text(value)
        if details:
            console.print(Padding(details, (0, 0, 0, 4)))


def words(text: str, style: str = "") -> Text:
    """Return a line of text without control characters, which a terminal would interpret."""
    return Text(printable(text), style=style)


def printable(text: str) -> str:
    """Return `text` with control characters escaped, except line breaks."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def cell(value: Any) -> str:
    """Format one value: times in UTC to the second, durations in a fitting unit."""
    if value is None or value == "" or value == () or value == {}:
        return EMPTY
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return cell(_fields(value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value)
    return printable(str(value))


def _styled(value: Any) -> Text:
    return Text(cell(value), style=STYLES.get(value, "") if isinstance(value, Level) else "")


def _fields(report: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(report) and not isinstance(report, type):
        return {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
    return dict(report)


def _is_table(value: Any) -> bool:
    """Return whether `value` is a list of objects with named fields."""
    return isinstance(value, list | tuple) and all(
        dataclasses.is_dataclass(row) or isinstance(row, Mapping) for row in value
    )


def _label(name: str) -> str:
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
