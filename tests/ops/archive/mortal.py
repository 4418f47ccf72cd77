"""A process whose children archive and restore, and are killed.

Reads lines such as `0.125 archive` or `- restore RUN` from standard input. For each, a child is forked that does so,
and killed after so many seconds if it has not ended by then; how it ended is printed.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from app.config import load_settings
from app.factory import create_app
from ops.archive.load import Load
from ops.archive.restore import restore_run
from ops.archive.run import run_scheduled
from ops.errors import AnotherRunIsUnderWay

STEP = 0.002  # seconds


class Small(Load):
    """Batches of a conversation or two, and no rest."""

    def rest(self, took: float) -> float:
        return 0.0


def make_load(connection: Any) -> Load:
    load = Small(connection, home=Path("/nowhere"), slow_ms=1e9, pace=10**9)
    load.messages = 60
    return load


def work(what: list[str]) -> None:
    for _ in range(1_000):
        try:
            if what[0] == "restore":
                restore_run(run_id=UUID(what[1]))
                return
            done = run_scheduled(make_load=make_load)
            if done is None or done.state != "running":
                return
        except AnotherRunIsUnderWay:
            pass
        time.sleep(0.01)  # the server has not noticed yet that the one before is dead


def main() -> None:
    flask_app = create_app(load_settings(env_file=None))
    for line in sys.stdin:
        seconds, *what = line.split()
        child = os.fork()
        if child == 0:
            with flask_app.app_context():
                work(what)
            os._exit(0)
        ended, left = 0, float("inf") if seconds == "-" else float(seconds)
        while not ended and left > 0:
            time.sleep(STEP)
            left -= STEP
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGKILL)  # nobody has waited for it, so its number is nobody else's
            _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
