"""Parley under gunicorn, as it runs in production, and its own PostgreSQL and provider for tests of faults."""

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from ops.embedded.leftovers import running_process, wait_ended
from ops.embedded.site import open_site
from tests.database import migrate
from tests.limits import NO_LIMITS
from tests.processes import is_alive
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[2]
SECRET = "a-secret-for-tests-only-0123456789abcdef"
MAX_WAIT_SECONDS = 60  # reached only when something is broken

_port_locks: list[int] = []  # file descriptors, open until this process ends


def free_port() -> int:
    """Return a port below the ephemeral range that no other test on this machine gets.

    It stays free while its server restarts: no outgoing connection takes it, and no other test's server, which a client
    would mistake for this one.
    """
    folder = Path(tempfile.gettempdir()) / f"parley-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for port in range(20_000 + os.getpid() % 5_000, 32_000):
        descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as candidate:
                candidate.bind(("127.0.0.1", port))
        except OSError:
            os.close(descriptor)
            continue
        _port_locks.append(descriptor)
        return port
    raise AssertionError("no port is free")


class LiveServer:
    """One Parley server on the database at `database_url`; `settings` are environment variables."""

    wsgi = "wsgi:flask_app"

    def __init__(self, folder: Path, database_url: str, name: str = "web", **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database_url = database_url
        self.log_path = folder / f"{name}.log"
        self.http = urllib3.PoolManager(maxsize=64, retries=False, timeout=MAX_WAIT_SECONDS)
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self.environment = inherited | {
            "DATABASE_URL": database_url,
            "JWT_SECRET_KEY": SECRET,
            "PORT": str(self.port),
            "PARLEY_HOME": str(folder / "home"),
            **NO_LIMITS,
            **settings,
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def start_upstream(self, script: str) -> None:
        """Start a provider in its own process; web servers that start later use it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.upstream", "--script", script], cwd=PROJECT, stdout=subprocess.PIPE
        )
        self._started.append(process)
        self.upstream = psutil.Process(process.pid)
        assert process.stdout is not None
        base_url = process.stdout.readline().decode().split()[-1]
        self.environment |= {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": base_url}

    def start_web(self, expected: int = 200) -> None:
        """Start gunicorn and wait until /health responds with status `expected`."""
        self.launch()
        self.wait_for_health(expected)

    def launch(self) -> None:
        """Start gunicorn without waiting for it."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "ops/server/gunicorn_conf.py", self.wsgi],
                cwd=PROJECT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.arbiter = psutil.Process(self.process.pid)
        self._started.append(self.process)

    def wait_for_health(self, expected: int = 200) -> None:
        """Wait until /health responds with status `expected`; fail at once if gunicorn ends."""

        def has_status() -> bool:
            assert self.process.poll() is None, self.log()
            return self.health() == expected

        wait_until(has_status, lambda: f"/health did not return {expected}:\n{self.log()}")

    def health(self) -> int:
        """Return the status of /health; 0 without a response."""
        try:
            return self.http.request("GET", f"{self.url}/health", timeout=10).status
        except urllib3.exceptions.HTTPError:
            return 0

    def workers(self) -> list[psutil.Process]:
        """Return the gunicorn workers that are running."""
        try:
            return [child for child in self.arbiter.children() if is_alive(child)]
        except psutil.NoSuchProcess:
            return []

    def post(self, path: str, body: Any, headers: dict[str, str], **options: Any) -> urllib3.BaseHTTPResponse:
        """Send `body` as JSON."""
        return self.http.request("POST", self.url + path, json=body, headers=headers, **options)

    def log(self) -> str:
        """Return what the server has logged."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    def stop(self, seconds: float = MAX_WAIT_SECONDS) -> int:
        """Send SIGTERM to gunicorn and return its exit code."""
        self.process.terminate()
        return self.process.wait(seconds)

    def close(self) -> None:
        """End every started process, with SIGTERM first and SIGKILL after 10 s, and any worker that is left."""
        workers = self.workers() if hasattr(self, "arbiter") else []
        for process in reversed(self._started):
            process.terminate()
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        for worker in wait_ended(workers, 5):
            worker.kill()
        self.http.clear()


@contextlib.contextmanager
def own_postgres() -> Iterator[tuple[str, Path]]:
    """Provide URL and home of a separate, durable PostgreSQL; its keeper restarts it after a kill."""
    folder = Path(tempfile.mkdtemp(prefix="parley-faults-"))
    folder.chmod(0o755)
    home = folder / "home"
    try:
        with embedded.lease_postgres(home, max_connections=200) as lease:
            yield lease.url, home
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postmaster(home: Path) -> psutil.Process | None:
    """Return the postmaster of the PostgreSQL in `home`; None while it is not ready."""
    recorded = state.read(open_site(home), "postgres")
    return running_process(recorded) if recorded and recorded.ready else None


@contextlib.contextmanager
def application(settings: Settings, database_url: str) -> Iterator[tuple[Flask, Engine]]:
    """Migrate the database; provide an application that signs the servers' tokens, and an engine on the database."""
    flask_app = create_app(
        replace(
            settings,
            database=settings.database.model_copy(update={"url": database_url}),
            auth=settings.auth.model_copy(update={"jwt_secret_key": SecretStr(SECRET)}),
        )
    )
    engine = create_engine(
        database_url,
        poolclass=NullPool,  # no pooled connection that a fault has closed
        isolation_level="AUTOCOMMIT",
        connect_args={"application_name": "observer"},
    )
    with flask_app.app_context():
        migrate()
        db.engine.dispose()
    yield flask_app, engine
    engine.dispose()
