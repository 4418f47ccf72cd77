"""Steps of a first start with their elapsed time. Uses the standard library only, because the bootstrap uses it.

On a terminal, a step is one line that is rewritten, with a bar if its size is known. Elsewhere it is a line at its
start, one after each 15 seconds, and one at its end.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

BAR_WIDTH = 16
REDRAW_SECONDS = 0.2
REPORT_SECONDS = 15.0  # between two lines where no line can be rewritten
SHORT_SECONDS = 2.0  # a step that ends sooner has no line at its end, where no line can be rewritten
ERASE = "\r\x1b[K"


class Step:
    """A running step. `total` is its size in `unit`, 0 if unknown; `measure` returns how much of it is done."""

    def __init__(self, title: str, stream: TextIO) -> None:
        self._title, self._stream = title, stream
        self._total, self._unit = 0, ""
        self._measure: Callable[[], int] = lambda: 0
        self._begin = time.monotonic()
        self._ended = threading.Event()
        self._rewrites = stream.isatty()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def show_size(self, total: int, unit: str, measure: Callable[[], int]) -> None:
        """Show how much of the step, or of its next part, is done."""
        self._measure, self._total, self._unit = measure, total, unit

    def begin(self) -> None:
        """Show the step."""
        if not self._rewrites:
            self._write(f"{self._title} ...\n")
        self._thread.start()

    def end(self, *, failed: bool = False) -> None:
        """Show the duration, or leave the error to the caller."""
        self._ended.set()
        self._thread.join()
        if self._rewrites:
            self._write(ERASE + ("" if failed else f"{self._title}: {self._seconds} s\n"))
        elif not failed and self._seconds >= SHORT_SECONDS:
            self._write(f"{self._title}: done after {self._seconds} s\n")

    @property
    def _seconds(self) -> int:
        return round(time.monotonic() - self._begin)

    def _show(self) -> None:
        while not self._ended.wait(REDRAW_SECONDS if self._rewrites else REPORT_SECONDS):
            if self._rewrites:
                columns = shutil.get_terminal_size().columns
                self._write(ERASE + f"{self._title} {self._state()}"[: columns - 1])
            else:
                self._write(f"{self._title} {self._state()}\n")

    def _state(self) -> str:
        if not self._total:
            return f"... {self._seconds} s"
        done = min(self._measure(), self._total)
        filled = BAR_WIDTH * done // self._total
        return f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {done} of {self._total} {self._unit}, {self._seconds} s"

    def _write(self, text: str) -> None:
        with suppress(OSError):  # the terminal may be closed
            self._stream.write(text)
            self._stream.flush()


@contextmanager
def step(title: str, stream: TextIO) -> Iterator[Step]:
    """Show a step while the block runs."""
    running = Step(title, stream)
    running.begin()
    try:
        yield running
    except BaseException:
        running.end(failed=True)
        raise
    running.end()
