"""Parley as it really runs, to be hurt: gunicorn with its workers, a PostgreSQL of its own, a scripted provider."""

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import flask_migrate
import psutil
import urllib3
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine, NullPool, create_engine

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from ops import embedded
from ops.embedded import state
from ops.embedded.leftovers import wait_ended
from ops.embedded.site import open_site
from tests.limits import NO_LIMITS
from tests.processes import is_alive

PROJECT = Path(__file__).parents[2]
SECRET = "a-secret-for-tests-only-0123456789abcdef"
SECONDS = 60  # bound of every wait; only reached by a fault


def until(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Poll until `condition` gives something true, and return it; for what only another process can tell."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not seen within {seconds} s: {what}")


_kept: list[int] = []  # descriptors of the locks, open for as long as this process lives


def free_port() -> int:
    """A port below the ephemeral ones, so that no connection takes it while its server restarts, and no other rig on
    this machine either, which would then be taken for that server.
    """
    folder = Path(tempfile.gettempdir()) / f"parley-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for port in range(20_000 + os.getpid() % 5_000, 32_000):
        descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            os.close(descriptor)
            continue
        _kept.append(descriptor)
        return port
    raise AssertionError("no port is free")


class Rig:
    """One Parley on the database at `database_url`; `settings` are further variables of its environment."""

    wsgi = "wsgi:flask_app"

    def __init__(self, folder: Path, database_url: str, name: str = "web", **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database_url = database_url
        self.log = folder / f"{name}.log"
        self.http = urllib3.PoolManager(maxsize=64, retries=False)
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self.environment = kept | {
            "DATABASE_URL": database_url,
            "JWT_SECRET_KEY": SECRET,
            "PORT": str(self.port),
            "PARLEY_HOME": str(folder / "home"),
            **NO_LIMITS,
            **settings,
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def start_upstream(self, script: str) -> None:
        """A provider in a process of its own; the web servers started from now on ask it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.upstream", "--script", script], cwd=PROJECT, stdout=subprocess.PIPE
        )
        self._started.append(process)
        self.upstream = psutil.Process(process.pid)
        assert process.stdout is not None
        base_url = process.stdout.readline().decode().split()[-1]
        self.environment |= {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": base_url}

    def start_web(self, expected: int = 200) -> None:
        """Start gunicorn; returns once /health answers with this status."""
        self.launch()
        self.wait(expected)

    def launch(self) -> None:
        """Start gunicorn."""
        with self.log.open("ab") as log:
            web = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "ops/gunicorn_conf.py", self.wsgi],
                cwd=PROJECT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.web = psutil.Process(web.pid)
        self._started.append(web)

    def wait(self, expected: int = 200) -> None:
        """Until /health answers with this status."""
        until(lambda: self.health() == expected, f"{expected} of /health; see {self.log}")

    def health(self) -> int:
        """The status of /health; 0 while nobody answers."""
        try:
            return self.http.request("GET", f"{self.url}/health", timeout=10).status
        except urllib3.exceptions.HTTPError:
            return 0

    def workers(self) -> list[psutil.Process]:
        """gunicorn's workers, as far as they have started."""
        try:
            return [child for child in self.web.children() if is_alive(child)]
        except psutil.NoSuchProcess:
            return []

    def stop(self) -> None:
        """End everything that was started, gently where that works; no worker outlives its arbiter for long."""
        workers = self.workers() if hasattr(self, "web") else []
        for process in reversed(self._started):
            process.terminate()
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        for worker in wait_ended(workers, 5):
            worker.kill()


@contextlib.contextmanager
def own_postgres() -> Iterator[tuple[str, Path]]:
    """URL and home of a durable PostgreSQL that may be killed: its keeper starts it again."""
    folder = Path(tempfile.mkdtemp(prefix="parley-faults-"))
    folder.chmod(0o755)
    home = folder / "home"
    try:
        with embedded.lease_postgres(home, max_connections=200) as lease:
            yield lease.url, home
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postmaster(home: Path) -> psutil.Process | None:
    """The head of the PostgreSQL in `home`, while it runs."""
    known = state.read(open_site(home), "postgres")
    return known.process() if known and known.ready else None


@contextlib.contextmanager
def application(settings: Settings, database_url: str) -> Iterator[tuple[Flask, Engine]]:
    """An application that signs the same tokens, and an engine on its database, which gets migrated."""
    flask_app = create_app(
        replace(
            settings,
            database=settings.database.model_copy(update={"url": database_url}),
            auth=settings.auth.model_copy(update={"jwt_secret_key": SecretStr(SECRET)}),
        )
    )
    engine = create_engine(
        database_url,
        poolclass=NullPool,  # what is killed meanwhile is none of the observer's
        isolation_level="AUTOCOMMIT",
        connect_args={"application_name": "observer"},
    )
    with flask_app.app_context():
        flask_migrate.upgrade(directory=str(PROJECT / "migrations"))
        db.engine.dispose()
    yield flask_app, engine
    engine.dispose()
