"""Progress of long operations. Without a sink, reporting progress does nothing.

with progress("Archiving conversations", total=1200) as bar:
    bar.advance(50, note="waiting for autovacuum")
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class ProgressBar(Protocol):
    """Progress display of one operation."""

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        """Add `steps` to the completed steps; `note` describes the current state and stays until the next note."""


class ProgressSink(Protocol):
    """Display for progress bars; the command line has one."""

    def begin(self, title: str, total: float | None, unit: str) -> ProgressBar:
        """Show a new bar. `total` is in `unit`, or None if unknown."""
        ...

    def end(self, bar: ProgressBar) -> None:
        """Remove the bar."""
        ...


class _NullBar:
    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        pass


@dataclass
class _SafeBar:
    """A bar that stops displaying if writing to it fails, for example on a closed pipe; the operation continues."""

    bar: ProgressBar

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        try:
            self.bar.advance(steps, note=note)
        except OSError:
            self.bar = _NullBar()


# Ambient, because the arguments of an operation are those of its job (docs/adr/0021-ambient-values.md).
_sink: ContextVar[ProgressSink | None] = ContextVar("progress_sink", default=None)


@contextmanager
def progress_shown_by(sink: ProgressSink) -> Iterator[None]:
    """Show the progress of operations inside the block with `sink`."""
    token = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(token)


@contextmanager
def progress(title: str, *, total: float | None = None, unit: str = "") -> Iterator[ProgressBar]:
    """Report the progress of the block. `total` is None if unknown; `unit` names a step, `bytes` get a size format."""
    sink = _sink.get()
    if sink is None:
        yield _NullBar()
        return
    try:
        bar = sink.begin(title, total, unit)
    except OSError:
        yield _NullBar()
        return
    try:
        yield _SafeBar(bar)
    finally:
        with suppress(OSError):
            sink.end(bar)
