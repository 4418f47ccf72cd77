"""Leases: using an embedded server, starting it if nobody did, and letting the last user's end stop it."""

import fcntl
import json
import os
import select
import subprocess
import sys
import time
import weakref
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from ops.embedded import locks, ports, state
from ops.embedded.errors import EmbeddedError
from ops.embedded.keys import kept_secret
from ops.embedded.server import Options, plain_environment
from ops.embedded.site import Site, open_site

START_SECONDS = 240.0  # the first start, recovery after a crash, and waiting for another's start are all in it
STOP_SECONDS = 90.0
PROJECT = Path(__file__).resolve().parents[2]


class Lease:
    """The right to use a running server: `url` says how.

    The server runs until the last lease on it is closed, or the process that holds it has ended.
    """

    def __init__(self, site: Site, name: str, options: Options) -> None:
        self._site = site
        self._name = name
        self._users: int | None = None
        self.url = ""
        self.port = 0
        starting = locks.open_lock(site, f"{name}.start")
        try:
            locks.lock(starting, fcntl.LOCK_EX, seconds=START_SECONDS, waiting_for=f"another start of {name}")
            self._users = locks.open_lock(site, f"{name}.users")
            _LEASES.add(self)
            # Taken exclusively, it is the keeper that is stopping the server; afterwards a new one can be started.
            locks.lock(self._users, fcntl.LOCK_SH, seconds=STOP_SECONDS, waiting_for=f"{name} to stop")
            self.port = self._join(options)
        except BaseException:
            self._let_go()
            raise
        finally:
            os.close(starting)

    def close(self) -> None:
        """Stop using the server. The last user returns when it has stopped (bounded); closing twice is harmless."""
        if self._users is None:
            return
        self._let_go()
        deadline = time.monotonic() + STOP_SECONDS
        while locks.is_held(self._site, f"{self._name}.keeper") and time.monotonic() < deadline:
            used = self._used_by_others()
            time.sleep(locks.POLL)
            if used and self._used_by_others():  # twice: another's look at the lock can pass for a use
                break

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _join(self, options: Options) -> int:
        """Start a keeper if there is none, and return the port once the server listens."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not locks.is_held(self._site, f"{self._name}.keeper"):
                start_keeper(self._site, self._name, options)
            known = state.read(self._site, self._name)
            if known is not None and known.ready and ports.accepts(known.port):
                return known.port
            time.sleep(locks.POLL)
        raise EmbeddedError(f"{self._name} does not answer; its log is {self._site.home / 'log' / self._name}.log")

    def _used_by_others(self) -> bool:
        """Whether a lock that is not free for exclusive use is shared, so a user's; else it is the keeper's."""
        probe = locks.open_lock(self._site, f"{self._name}.users")
        try:
            return not locks.try_lock(probe, fcntl.LOCK_EX) and locks.try_lock(probe, fcntl.LOCK_SH)
        finally:
            os.close(probe)

    def _let_go(self) -> None:
        if self._users is not None:
            os.close(self._users)
            self._users = None


_LEASES: "weakref.WeakSet[Lease]" = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked child is no user: its copies of the descriptors would keep the servers up after the parent's end."""
    for lease in list(_LEASES):
        lease._let_go()


os.register_at_fork(after_in_child=_forget_in_child)


def start_keeper(site: Site, name: str, options: Options) -> None:
    """Start the keeper of a server, and return when the server answers. Raises the `EmbeddedError` it reports."""
    with subprocess.Popen(  # noqa: S603  # our own list of arguments, no shell
        [sys.executable, "-m", "ops.embedded.keeper", name, str(site.home), json.dumps(asdict(options))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=PROJECT,
        env=plain_environment() | {"PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, sys.path)])},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101  # for the type checker: it is a pipe
        answer = _read_answer(process.stdout.fileno(), time.monotonic() + START_SECONDS)
    try:
        said = json.loads(answer)
    except ValueError:
        raise EmbeddedError(f"the keeper of {name} ended without an answer; see {site.home / 'log'}") from None
    if "error" in said:
        raise EmbeddedError(said["error"])


def _read_answer(descriptor: int, deadline: float) -> bytes:
    answer = b""
    while not answer.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(descriptor, 65_536) if ready else b""
        if not piece:
            break
        answer += piece
    return answer


def lease_postgres(home: Path, *, durable: bool = True, max_connections: int = 100) -> Lease:
    """Use the PostgreSQL in `home`, starting it if it does not run.

    `lease.url` names the database `parley` and a role that is superuser there. `durable=False` (tests, drills) trades
    safety against a crash of the machine for speed. A server that runs already is used with the options it has.
    Root's servers run as another user, so root's `home` should be in folders that others may enter, else the data is
    kept under /var/lib/parley. Raises `EmbeddedError`, one line that says what to do.
    """
    from ops.embedded.postgres_server import PASSWORD, postgres_url

    site = open_site(home)
    lease = Lease(site, "postgres", Options(durable=durable, max_connections=max_connections))
    lease.url = postgres_url(kept_secret(site, PASSWORD), lease.port)
    return lease


def lease_redis(home: Path, *, durable: bool = True) -> Lease:
    """Use the Redis in `home`, starting it if it does not run; `lease.url` is for CELERY_BROKER_URL.

    Raises `EmbeddedError`, one line that says what to do.
    """
    from ops.embedded.redis_server import PASSWORD, redis_url

    site = open_site(home)
    lease = Lease(site, "redis", Options(durable=durable, max_connections=1000))
    lease.url = redis_url(kept_secret(site, PASSWORD), lease.port)
    return lease
