"""Blocking a running dump at a known point, and calls in the background."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from tests.ops.backup.conftest import SECONDS, session
from tests.ops.installation import run_sql
from tests.waiting import wait_until

WAITS = """
SELECT pid FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'pg_dump' AND wait_event_type = 'Lock'"""


@contextmanager
def lock_table(url: str, table: str = "twins") -> Iterator[None]:
    """Lock the table during the block. A dump waits for it after importing the snapshot."""
    with session(url) as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


def wait_for_dump(url: str) -> int:
    """Wait until a pg_dump waits for a lock in the database; return its backend's process id."""
    return int(wait_until(lambda: run_sql(url, WAITS))[0][0])


def dump_processes(pid: int) -> list[psutil.Process]:
    """Return the pg_dump processes below the process `pid`."""
    dumps = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended since it was listed
            dumps += [child] if child.name() == "pg_dump" else []
    return dumps


class BackgroundCall:
    """A call that runs in a thread."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        """Wait for the end of the call; return its result or raise its error."""
        self._thread.join(SECONDS)
        assert self.ended
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self._result = work()
        except BaseException as error:
            self._error = error
