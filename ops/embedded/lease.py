"""Leases of embedded servers: the first lease starts a server, the end of the last one stops it."""

import fcntl
import json
import os
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from ops.embedded import file_locks, ports, state
from ops.embedded.errors import EmbeddedError
from ops.embedded.keys import load_or_create_secret
from ops.embedded.server import Options, minimal_environment
from ops.embedded.site import Site, open_site

START_SECONDS = 240.0  # includes the first start, crash recovery and waiting for another process's start
STOP_SECONDS = 90.0
PROJECT = Path(__file__).resolve().parents[2]


class Lease:
    """A lease of a running server at `url`.

    The server runs until its last lease is closed or the process of that lease ends.
    """

    def __init__(self, site: Site, name: str, options: Options) -> None:
        self._site = site
        self.name = name
        self._users: int | None = None
        self._options = options
        self.url = ""
        self.port = 0
        try:
            with self._start_lock():
                self._users = file_locks.open_lock(site, f"{name}.users")
                _release_in_forked_children()
                _LEASES.add(self)
                # If it is locked exclusively, the keeper is stopping the server; then a new one can be started.
                file_locks.acquire(self._users, fcntl.LOCK_SH, seconds=STOP_SECONDS, waiting_for=f"{name} to stop")
                self.port = self._join(options)
        except BaseException:
            self._release()
            raise

    def restart_if_ended(self) -> bool:
        """Start the server again, on the same port, if its keeper was killed or has given up. Return whether it was.

        Takes microseconds if it runs. Raises `EmbeddedError` if it cannot be started, for example on a full disk.
        """
        if self._users is None or file_locks.is_held(self._site, f"{self.name}.keeper"):
            return False
        with self._start_lock():
            self._join(replace(self._options, port=self.port))
        return True

    @contextmanager
    def _start_lock(self) -> Iterator[None]:
        """Hold the lock that lets one process at a time start the server."""
        starting = file_locks.open_lock(self._site, f"{self.name}.start")
        try:
            file_locks.acquire(
                starting, fcntl.LOCK_EX, seconds=START_SECONDS, waiting_for=f"another start of {self.name}"
            )
            yield
        finally:
            os.close(starting)

    def close(self) -> None:
        """End the lease. The last one waits until the server has stopped, for up to 90 s. Closing twice is allowed."""
        if self._users is None:
            return
        self._release()
        deadline = time.monotonic() + STOP_SECONDS
        while file_locks.is_held(self._site, f"{self.name}.keeper") and time.monotonic() < deadline:
            used = self._has_other_users()
            time.sleep(file_locks.POLL)
            if used and self._has_other_users():  # twice, because this check by another process looks like a user
                break

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _join(self, options: Options) -> int:
        """Start a keeper if there is none; return the port when the server accepts connections."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not file_locks.is_held(self._site, f"{self.name}.keeper"):
                start_keeper(self._site, self.name, options)
            current = state.read(self._site, self.name)
            if current is not None and current.ready and ports.accepts(current.port):
                return current.port
            time.sleep(file_locks.POLL)
        raise EmbeddedError(f"{self.name} does not respond; its log is {self._site.home / 'log' / self.name}.log")

    def _has_other_users(self) -> bool:
        """Return whether the users' lock is held and shared. An exclusive one is the keeper's."""
        descriptor = file_locks.open_lock(self._site, f"{self.name}.users")
        try:
            return not file_locks.try_lock(descriptor, fcntl.LOCK_EX) and file_locks.try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def _release(self) -> None:
        if self._users is not None:
            os.close(self._users)
            self._users = None


_LEASES: "weakref.WeakSet[Lease]" = weakref.WeakSet()


@cache
def _release_in_forked_children() -> None:
    """Release all leases in each forked child, whose descriptors would keep the servers running after the parent."""
    os.register_at_fork(after_in_child=_release_all)


def _release_all() -> None:
    for lease in list(_LEASES):
        lease._release()


def start_keeper(site: Site, name: str, options: Options) -> None:
    """Start the keeper of a server; return when the server is ready. Raises the `EmbeddedError` that it reports."""
    with subprocess.Popen(  # noqa: S603  # a fixed list of arguments, no shell
        [sys.executable, "-m", "ops.embedded.keeper", name, str(site.home), json.dumps(asdict(options))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=PROJECT,
        env=minimal_environment() | {"PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, sys.path)])},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101  # for the type checker: it is a pipe
        line = _read_line(process.stdout.fileno(), time.monotonic() + START_SECONDS)
    try:
        result = json.loads(line)
    except ValueError:
        raise EmbeddedError(f"the keeper of {name} ended without a result; see {site.home / 'log'}") from None
    if "error" in result:
        raise EmbeddedError(result["error"])


def _read_line(descriptor: int, deadline: float) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(descriptor, 65_536) if ready else b""
        if not chunk:
            break
        line += chunk
    return line


def lease_postgres(home: Path, *, durable: bool = True, max_connections: int = 100) -> Lease:
    """Lease the PostgreSQL in `home`; start it if it is not running.

    `lease.url` is the database `parley` with a superuser role. `durable=False` (tests, drills) is faster, but loses
    data if the machine crashes. A running server keeps its options. A server of root runs as another user; if that
    user cannot enter `home`, the data is stored under /var/lib/parley. Raises `EmbeddedError`.
    """
    from ops.embedded.postgres_server import PASSWORD, postgres_url

    site = open_site(home)
    lease = Lease(site, "postgres", Options(durable=durable, max_connections=max_connections))
    lease.url = postgres_url(load_or_create_secret(site, PASSWORD), lease.port)
    return lease


def lease_redis(home: Path, *, durable: bool = True) -> Lease:
    """Lease the Redis in `home`; start it if it is not running. `lease.url` is for CELERY_BROKER_URL.

    Raises `EmbeddedError`.
    """
    from ops.embedded.redis_server import PASSWORD, redis_url

    site = open_site(home)
    lease = Lease(site, "redis", Options(durable=durable, max_connections=1000))
    lease.url = redis_url(load_or_create_secret(site, PASSWORD), lease.port)
    return lease
