"""Holding a dump at a known point, and waiting for it to get there."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from tests.jobs.processes import eventually
from tests.ops.backup.conftest import SECONDS, run_sql, session

WAITS = """
SELECT pid FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'pg_dump' AND wait_event_type = 'Lock'"""


@contextmanager
def held(url: str, table: str = "twins") -> Iterator[None]:
    """Whoever dumps that table waits, once it looks through the snapshot, until the block ends."""
    with session(url) as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


def waiting_dump(url: str) -> int:
    """The process id, on the server, of the pg_dump that waits in the database."""
    return int(eventually(lambda: run_sql(url, WAITS))[0][0])


def dumps_of(pid: int) -> list[psutil.Process]:
    """The pg_dumps that the process `pid` has started."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found += [child] if child.name() == "pg_dump" else []
    return found


class Work:
    """Something under way in a thread."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def outcome(self) -> Any:
        """Wait for its end; gives what it returned, or raises what it raised."""
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
