"""How far a long piece of work has come, for whoever watches; without a watcher it costs nothing.

with progress("Archiving conversations", total=1200) as bar:
    bar.advance(50, note="waiting: autovacuum is running")
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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


watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def progress(title: str, *, total: float | None = None, unit: str = "") -> Iterator[Bar]:
    """Work with that title, of `total` steps if that is known; `unit` is what a step is, `bytes` are shown as such."""
    watching = watcher.get()
    if watching is None:
        yield _Unwatched()
        return
    bar = watching.begin(title, total, unit)
    try:
        yield bar
    finally:
        watching.end(bar)
