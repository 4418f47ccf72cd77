"""Restart of embedded servers that ended although they are leased: their keeper was killed, or had given up."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ops.embedded.errors import EmbeddedError
from ops.embedded.lease import Lease
from ops.up.restarts import RestartPauses

INTERVAL = 1.0  # seconds between two checks of all servers


@contextmanager
def monitored(leases: Sequence[Lease], report: Callable[[str], None]) -> Iterator[None]:
    """Restart the leased servers, until the context ends. `report` gets a line for each start and failure.

    A server keeps its port, so the processes that use it find it again. A start that fails is tried again for as long
    as it takes, with growing pauses: a full disk is freed at some time.
    """
    ended = threading.Event()
    threads = [
        threading.Thread(target=_monitor, args=(lease, report, ended), name=f"monitor-{lease.name}", daemon=True)
        for lease in leases
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _monitor(lease: Lease, report: Callable[[str], None], ended: threading.Event) -> None:
    pauses = RestartPauses(time.monotonic())
    pause = INTERVAL
    while not ended.wait(pause):
        pause = INTERVAL
        try:
            if lease.restart_if_ended():
                report(f"{lease.name} had ended and was started again")
                pauses.started_at = time.monotonic()
        except EmbeddedError as error:
            now = time.monotonic()
            pause = max(INTERVAL, pauses.pause_after_end(now))
            pauses.started_at = now
            report(f"{lease.name} has ended and cannot be started, retry in {pause:.0f} s: {error.detail}")
