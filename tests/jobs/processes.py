"""Real workers and beats, and a server that never replies."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from ops.embedded.parent_death import signal_on_parent_death
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[2]
SECONDS = 60  # limit of each wait; reached only when something is broken


class CeleryProcess:
    """`celery -A module kind` in its own process group, as under `make up`."""

    def __init__(self, kind: str, module: str, environment: dict[str, str], log: Path) -> None:
        self.path = log
        options = ["--without-gossip", "--without-mingle", "-n", f"{log.stem}@test"] if kind == "worker" else []
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "--quiet", "-A", module, kind, *options],
                cwd=PROJECT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=signal_on_parent_death(signal.SIGKILL),  # a killed test run leaves no process behind
            )

    def log(self) -> str:
        """Return what the process has logged."""
        return self.path.read_text()

    def wait_for_log(self, text: str) -> "CeleryProcess":
        """Wait until the log contains `text`; fail if the process ends before."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: text in self.log() or self.process.poll() is not None)
        assert text in self.log(), self.log()
        return self

    def children(self) -> list[psutil.Process]:
        """Return the processes of the pool."""
        return psutil.Process(self.process.pid).children()

    def kill(self) -> None:
        """Kill the process, but not its children."""
        self.process.kill()
        self.process.wait(SECONDS)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal the whole group, as honcho does, and return the exit code."""
        os.killpg(self.process.pid, number)
        return self.process.wait(SECONDS)

    def kill_group(self) -> None:
        """Kill the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(SECONDS)


class SilentServer:
    """A server that accepts connections and never replies; its context returns the port."""

    def __enter__(self) -> int:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._listener.close()
