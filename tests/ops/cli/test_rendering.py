"""Printed reports: nothing is cut off at any width of the terminal, and ids can be copied."""

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from ops.cli.rendering import report_console, show, table

ID = UUID("01a205f4-98b3-7170-8ac6-05f53a4f7e10")
AT = datetime(2026, 11, 23, 1, 10, 45, tzinfo=UTC)
ROW: dict[str, Any] = {
    "id": ID,
    "state": "completed",
    "started_at": AT,
    "messages": 1200,
    "reason": None,
    "does": "Moves the messages of conversations that have been idle for a while into bundles.",
}


def drawn(width: int, *things: Any) -> str:
    console = report_console(file=io.StringIO(), width=width)
    for thing in things:
        table(console, thing) if isinstance(thing, list) else show(console, thing)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_rows_are_a_table_on_wide_terminal() -> None:
    lines = drawn(200, [ROW, ROW]).splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["id", "state", "started", "at", "messages", "reason", "does"]


def test_sentences_are_folded_first() -> None:
    lines = drawn(120, [ROW]).splitlines()
    assert lines[0].startswith("id ")
    assert f"{ID}  completed  2026-11-23 01:10:45" in lines[1]
    assert len(lines) > 2


@pytest.mark.parametrize("width", [40, 80])
def test_rows_are_blocks_on_narrow_terminal(width: int) -> None:
    text = drawn(width, [ROW, ROW])
    assert text.splitlines()[0].rstrip() == str(ID)
    flat = " ".join(text.split())
    assert flat.count("state completed, started at 2026-11-23 01:10:45, messages 1200, does Moves the messages") == 2
    assert "reason" not in flat


def test_control_characters_are_escaped() -> None:
    for width in (40, 200):
        assert "\x1b" not in drawn(width, [{**ROW, "reason": "\x1b[2J"}])


def test_long_value_is_not_truncated() -> None:
    @dataclass(frozen=True)
    class Report:
        place: str

    assert "/srv/" + "x" * 100 in "".join(drawn(60, Report("/srv/" + "x" * 100)).split())


def test_empty_table_prints_none() -> None:
    assert drawn(80, []) == "None.\n"


def test_text_between_colons_is_printed_as_it_is() -> None:
    console = report_console(file=io.StringIO(), width=80)
    console.print("since 12:star:00")
    assert console.file.getvalue() == "since 12:star:00\n"  # type: ignore[attr-defined]  # it is a StringIO
