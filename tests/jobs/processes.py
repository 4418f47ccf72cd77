"""Real workers and beats, and a way to the broker that can be cut."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

from ops.embedded.parent_death import dying_with_parent

PROJECT = Path(__file__).parents[2]
SECONDS = 60  # bound of every wait, only reached by a fault

T = TypeVar("T")


def eventually(find: Callable[[], T], log: Callable[[], str] | None = None) -> T:
    """The first true value that `find` returns. For what no event tells of, such as another process's row or file.

    `log` tells why it may never come.
    """
    deadline = time.monotonic() + SECONDS
    while not (found := find()):
        assert time.monotonic() < deadline, log() if log else "it never happened"
        time.sleep(0.02)
    return found


class CeleryProcess:
    """`celery -A module kind`, in a process group of its own as under `make up`."""

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
                preexec_fn=dying_with_parent(signal.SIGKILL),  # a killed test run leaves none behind
            )

    def log(self) -> str:
        return self.path.read_text()

    def says(self, text: str) -> "CeleryProcess":
        """Wait until its log has the text."""
        with contextlib.suppress(AssertionError):
            eventually(lambda: text in self.log() or self.process.poll() is not None)
        assert text in self.log(), self.log()
        return self

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal the whole group, as honcho does, and wait; returns the exit code."""
        os.killpg(self.process.pid, number)
        return self.process.wait(SECONDS)

    def clear(self) -> None:
        """Whatever of it is left is killed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(SECONDS)


class Gate:
    """A port that leads to the broker while it is open; shut, connections break and new ones are refused."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener: socket.socket | None = None
        self._links: set[socket.socket] = set()
        self.port = 0
        self.open()

    def open(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(50)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        assert self._listener is not None
        _cut(self._listener)
        for link in list(self._links):
            _cut(link)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        self._links |= set(other)
        with contextlib.suppress(OSError, ValueError):
            while True:
                for end in select.select(list(other), [], [])[0]:
                    piece = end.recv(65_536)
                    if not piece:
                        raise OSError
                    other[end].sendall(piece)
        for end in other:
            end.close()
        self._links -= set(other)


def _cut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class Silent:
    """A port that takes connections and never says anything; the block's value is its number."""

    def __enter__(self) -> int:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._listener.close()
