"""How far a long piece of work has come, for whoever watches; without a watcher it costs nothing.

with progress("Archiving conversations", total=1200) as bar:
    bar.advance(50, note="waiting: autovacuum is running")
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class Bar(Protocol):
    """One piece of work that somebody watches."""

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        """So much more is done; `note` is a word on the present state and stays until the next one."""


class Watcher(Protocol):
    """Who shows the bars; the command line sets one."""

    def begin(self, title: str, total: float | None, unit: str) -> Bar: ...

    def end(self, bar: Bar) -> None: ...


class _Unwatched:
    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        pass


@dataclass
class _Shown:
    """The bar of a watcher who may leave, as a pipe does whose reader has ended: the work goes on unseen."""

    bar: Bar

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        try:
            self.bar.advance(steps, note=note)
        except OSError:
            self.bar = _Unwatched()


watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def progress(title: str, *, total: float | None = None, unit: str = "") -> Iterator[Bar]:
    """Work with that title, of `total` steps if that is known; `unit` is what a step is, `bytes` are shown as such."""
    watching = watcher.get()
    if watching is None:
        yield _Unwatched()
        return
    try:
        bar = watching.begin(title, total, unit)
    except OSError:
        yield _Unwatched()
        return
    try:
        yield _Shown(bar)
    finally:
        with suppress(OSError):
            watching.end(bar)
