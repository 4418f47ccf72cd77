"""The interface of an embedded server, and running its programs."""

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

# API keys must not leak to a server, and PGHOST or PGOPTIONS of another database must not affect it.
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PARLEY_POSTGRES_BIN", "TMPDIR", "TZ")


def minimal_environment() -> dict[str, str]:
    """Return the environment for a server's programs: paths, TMPDIR and TZ, with LC_ALL=C."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | {"LC_ALL": "C"}


@dataclass(frozen=True)
class Options:
    """Options of a server. `durable=False` (tests, drills) is faster, but loses data if the machine crashes.

    `port` is the only port to use; 0 lets the keeper choose one.
    """

    durable: bool = True
    max_connections: int = 100
    port: int = 0


class Server(ABC):
    """A server in a home."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]  # stops cleanly without waiting for clients
    force_signal: ClassVar[signal.Signals]  # if the stop signal has no effect

    def __init__(self, site: Site, options: Options) -> None:
        self.site = site
        self.options = options

    @property
    @abstractmethod
    def data(self) -> Path:
        """Path of the data folder."""

    @abstractmethod
    def prepare(self) -> str:
        """Find the program, create the data folder if missing, and return the version. Raises `EmbeddedError`."""

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """Write the configuration and return the command that serves on loopback at `port` in the foreground."""

    @abstractmethod
    def is_ready(self, port: int) -> bool:
        """Return whether it accepts the password. Raises `EmbeddedError` if it rejects it."""

    @abstractmethod
    def failure_reason(self, log: str) -> str:
        """Return the line of the log that gives the reason why the server ended."""


def run_tool(site: Site, command: Sequence[str | Path], *, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a program of a server as the server's user. Raises `EmbeddedError` if it cannot run."""
    try:
        done = subprocess.run(  # noqa: S603  # a fixed list of arguments, no shell
            [str(part) for part in command],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            env=minimal_environment(),
            cwd="/",
            **site.run_as,
        )
    except subprocess.TimeoutExpired:
        raise EmbeddedError(
            f"{command[0]} did not end within {seconds:.0f} s: check that the disk is neither full nor very slow"
        ) from None
    except OSError as error:
        raise EmbeddedError(
            f"{command[0]} cannot be started ({error.strerror}): install PostgreSQL 15 or newer and redis-server "
            "on this machine, or set DATABASE_URL and CELERY_BROKER_URL"
        ) from error
    if done.returncode == 127 or "error while loading shared libraries" in done.stderr:
        raise EmbeddedError(f"a system library is missing; install it and try again: {last_line(done.stderr)}")
    return done


def last_line(text: str, *marks: str) -> str:
    """Return the last line with one of `marks`, else the last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if any(mark in line for mark in marks)]
    return (marked or lines or ["(no output)"])[-1]
