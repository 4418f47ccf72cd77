"""A process whose children archive or restore, and are killed.

Reads lines such as `0.125 archive` or `- restore RUN` from standard input. Each line forks a child for that work, kills
it after that many seconds unless it has ended (`-`: never), and prints its exit code.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2

from app.config import load_settings
from app.factory import create_app
from ops.archive.restore import restore_run
from ops.archive.run import run_scheduled
from ops.archive.throttle import Throttle
from ops.errors import AlreadyRunning

STEP = 0.002  # seconds


class UnthrottledSmallBatches(Throttle):
    """A throttle with batches of one or two conversations and without pauses."""

    def pause(self, batch_seconds: float, messages: int | None = None) -> float:
        return 0.0


def make_throttle(connection: Any) -> Throttle:
    throttle = UnthrottledSmallBatches(connection, home=Path("/nowhere"), slow_ms=1e9, pace=10**9)
    throttle.messages = 60
    return throttle


def work(command: list[str]) -> None:
    for _ in range(1_000):
        try:
            if command[0] == "restore":
                restore_run(run_id=UUID(command[1]))
                return
            report = run_scheduled(make_throttle=make_throttle)
            if report is None or report.state != "running":
                return
        except AlreadyRunning:
            pass
        time.sleep(0.01)  # the server has not yet released the lock of the killed child


def end_leases() -> None:
    """Delete the lease of the killed child, which would end by itself, but later."""
    connection = psycopg2.connect(os.environ["DATABASE_URL"].replace("+psycopg2", ""))
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM leases")
    connection.close()


def main() -> None:
    flask_app = create_app(load_settings(env_file=None))
    for line in sys.stdin:
        seconds, *command = line.split()
        child = os.fork()
        if child == 0:
            with flask_app.app_context():
                work(command)
            os._exit(0)
        ended, left = 0, float("inf") if seconds == "-" else float(seconds)
        while not ended and left > 0:
            time.sleep(STEP)
            left -= STEP
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGKILL)  # it was not waited for, so its pid is not reused
            _, status = os.waitpid(child, 0)
            end_leases()
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
