"""Progress on standard error: bars on a terminal, otherwise a plain line every ten seconds."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ops.runs.progress import ProgressBar, progress_shown_by

if TYPE_CHECKING:  # imported with the first bar: most commands show none
    from rich.progress import Progress, TaskID

LINE_SECONDS = 10  # between two lines


@contextmanager
def show_progress() -> Iterator[None]:
    """Display the progress of operations inside the block."""
    with progress_shown_by(Bars() if sys.stderr.isatty() else Lines()):
        yield


@dataclass
class _Bar:
    display: "Progress"
    task: "TaskID"

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        if note is not None:
            self.display.update(self.task, note=note)
        self.display.advance(self.task, steps)


class Bars:
    """Progress bars for a terminal; a bar disappears when it ends."""

    def begin(self, title: str, total: float | None, unit: str) -> ProgressBar:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        counted = DownloadColumn(binary_units=True) if unit == "bytes" else MofNCompleteColumn()
        display = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            counted,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )
        display.start()
        return _Bar(display, display.add_task(title, total=total, note=""))

    def end(self, bar: ProgressBar) -> None:
        assert isinstance(bar, _Bar)  # noqa: S101  # made by `begin`
        bar.display.stop()


class _Line:
    def __init__(self, title: str, total: float | None, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._completed, self._note, self._next_line = 0.0, "", time.monotonic() + LINE_SECONDS

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        self._completed += steps
        self._note = self._note if note is None else note
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            of = f" of {self._total:,.0f}" if self._total is not None else ""
            unit = f" {self._unit}" if self._unit else ""
            click.echo(
                f"{self._title}: {self._completed:,.0f}{of}{unit}" + (f", {self._note}" if self._note else ""), err=True
            )


class Lines:
    """Plain lines for pipes and logs, one every `LINE_SECONDS`; short operations print nothing."""

    def begin(self, title: str, total: float | None, unit: str) -> ProgressBar:
        return _Line(title, total, unit)

    def end(self, bar: ProgressBar) -> None:
        pass
