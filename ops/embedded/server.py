"""What the keeper needs to know of a server that it starts, and the two ways in which such programs fail to run."""

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ops.embedded.errors import EmbeddedError
from ops.embedded.site import Site

# A server needs no API key of its caller's, and a PGHOST or PGOPTIONS meant for another database would mislead it.
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PARLEY_POSTGRES_BIN", "TMPDIR", "TZ")


def plain_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"LC_ALL": "C"}


@dataclass(frozen=True)
class Options:
    """`durable=False` trades safety against a crash of the machine for speed: for tests, and for drills."""

    durable: bool = True
    max_connections: int = 100


class Server(ABC):
    """One kind of server in one home."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]  # a clean stop that does not wait for clients
    force_signal: ClassVar[signal.Signals]  # for one that did not heed it

    def __init__(self, site: Site, options: Options) -> None:
        self.site = site
        self.options = options

    @property
    @abstractmethod
    def data(self) -> Path:
        """The data folder."""

    @abstractmethod
    def prepare(self) -> str:
        """Find the program, make the data folder if there is none, and return the version. Raises `EmbeddedError`."""

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """The command that serves on loopback at `port` in the foreground; writes configuration as needed."""

    @abstractmethod
    def is_ready(self, port: int) -> bool:
        """Whether it answers with our password. Raises `EmbeddedError` when it answers that it never will."""

    @abstractmethod
    def last_words(self, log: str) -> str:
        """The line of the log that says best why the server ended."""


def run_tool(site: Site, command: Sequence[str | Path], *, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run one of a server's programs as the server's account. Raises `EmbeddedError` when it cannot run at all."""
    try:
        done = subprocess.run(  # noqa: S603  # our own list of arguments, no shell
            [str(part) for part in command],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            env=plain_environment(),
            cwd="/",
            **site.run_as,
        )
    except subprocess.TimeoutExpired:
        raise EmbeddedError(
            f"{command[0]} did not end within {seconds:.0f} s: is the disk very slow or full?"
        ) from None
    except OSError as error:
        raise EmbeddedError(
            f"{command[0]} cannot be run ({error.strerror}): install PostgreSQL 15 or newer and a redis-server of this "
            "machine's own, or set DATABASE_URL and CELERY_BROKER_URL"
        ) from error
    if done.returncode == 127 or "error while loading shared libraries" in done.stderr:
        raise EmbeddedError(f"a system library is missing; install it and try again: {last_line(done.stderr)}")
    return done


def last_line(text: str, *marks: str) -> str:
    """The last line that holds one of `marks`, else the last that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if any(mark in line for mark in marks)]
    return (marked or lines or ["(it said nothing)"])[-1]
