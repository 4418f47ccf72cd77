"""Progress on standard error: bars on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ops.progress import Bar, watcher

LINE_SECONDS = 10  # between two plain lines


@contextmanager
def watching() -> Iterator[None]:
    """Whatever long work is done inside shows how far it is."""
    shown = Bars() if sys.stderr.isatty() else Lines()
    token = watcher.set(shown)
    try:
        yield
    finally:
        watcher.reset(token)


@dataclass
class _Drawn:
    drawing: Progress
    task: TaskID

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        if note is not None:
            self.drawing.update(self.task, note=note)
        self.drawing.advance(self.task, steps)


class Bars:
    """On a terminal: a bar, which goes away at its end."""

    def begin(self, title: str, total: float | None, unit: str) -> Bar:
        counted = DownloadColumn(binary_units=True) if unit == "bytes" else MofNCompleteColumn()
        drawing = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            counted,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )
        drawing.start()
        return _Drawn(drawing, drawing.add_task(title, total=total, note=""))

    def end(self, bar: Bar) -> None:
        assert isinstance(bar, _Drawn)  # noqa: S101  # it is what `begin` gave
        bar.drawing.stop()


class _Told:
    def __init__(self, title: str, total: float | None, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._note, self._next = 0.0, "", time.monotonic() + LINE_SECONDS

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        self._done += steps
        self._note = self._note if note is None else note
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_SECONDS
            of = f" of {self._total:,.0f}" if self._total is not None else ""
            unit = f" {self._unit}" if self._unit else ""
            click.echo(
                f"{self._title}: {self._done:,.0f}{of}{unit}" + (f", {self._note}" if self._note else ""), err=True
            )


class Lines:
    """Anywhere else: a line every `LINE_SECONDS`, so that nothing that is quick says anything."""

    def begin(self, title: str, total: float | None, unit: str) -> Bar:
        return _Told(title, total, unit)

    def end(self, bar: Bar) -> None:
        pass
