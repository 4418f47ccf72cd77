"""The whole platform for fault tests: two web servers, a worker, a beat and an endless archival.

They have their own PostgreSQL, Redis and scripted provider. The second server's connections to the database and all
connections to the provider pass through proxies, which can be cut.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from flask import Flask
from sqlalchemy import Connection, Engine, NullPool, create_engine, make_url
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from ops import embedded
from ops.embedded import state
from ops.embedded.leftovers import running_process
from ops.embedded.parent_death import signal_on_parent_death
from ops.embedded.site import open_site
from tests.faults.live_server import MAX_WAIT_SECONDS, PROJECT, LiveServer, application, own_postgres
from tests.faults.proxy import Proxy
from tests.jobs.processes import CeleryProcess
from tests.waiting import wait_until

STALE_SECONDS = 3
ANSWER_PIECES = 6
PIECE_PAUSE = 0.04  # seconds


class Testbed:
    """All processes. The first web server and the jobs connect to the database directly, the second through `proxy`."""

    __test__ = False  # pytest must not collect it

    def __init__(self, folder: Path, home: Path, database_url: str, broker: str, flask_app: Flask, engine: Engine):
        self.folder, self.home, self.flask_app, self.engine, self.broker = folder, home, flask_app, engine, broker
        server = make_url(database_url)
        self.proxy = Proxy((server.host or "127.0.0.1", server.port or 5432))
        proxied = server.set(host="127.0.0.1", port=self.proxy.port).render_as_string(hide_password=False)
        self.web_servers = [
            LiveServer(
                folder,
                url,
                name=f"web{number}",
                WEB_WORKERS=str(workers),
                CELERY_BROKER_URL=broker,
                CHAT_STALE_SECONDS=str(STALE_SECONDS),
                LOG_LEVEL="WARNING",
                DB_CONNECT_TIMEOUT="2",
                AI_RETRIES="0",  # so that each request is one provider call, and the calls can be counted
                AI_CIRCUIT_OPEN_SECONDS="1",
            )
            for number, (url, workers) in enumerate([(database_url, 2), (proxied, 1)])
        ]
        self.jobs: dict[str, CeleryProcess] = {}
        self.started = 0
        self.archiver: subprocess.Popen[bytes] | None = None
        self.restarted = Counter[str]()
        self._timers: list[threading.Timer] = []

    @property
    def urls(self) -> list[str]:
        """The web servers' base URLs."""
        return [web.url for web in self.web_servers]

    def start(self, *, archiving: bool) -> None:
        """Start all processes, with the archival if `archiving`, and wait until the web servers are healthy."""
        self.web_servers[0].start_upstream(f"echo(pause={PIECE_PAUSE}, pieces={ANSWER_PIECES})")
        provider = make_url(self.web_servers[0].environment["OPENAI_BASE_URL"])
        self.provider = (str(provider.host), int(provider.port or 0))
        self.provider_proxy = Proxy(self.provider)
        base_url = provider.set(port=self.provider_proxy.port).render_as_string()
        for web in self.web_servers:
            web.environment |= {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": base_url}
        for kind in ("worker", "beat"):
            self.start_job(kind)
        if archiving:
            self.start_archiver()
        for web in self.web_servers:
            web.launch()
        for web in self.web_servers:
            web.wait_for_health()

    def start_job(self, kind: str) -> None:
        """Start a `worker` or a `beat`, which replaces the one before."""
        self.started += 1
        log = self.folder / f"{kind}{self.started}.log"
        self.jobs[kind] = CeleryProcess(kind, f"tasks.{kind}", self.web_servers[0].environment, log)

    def start_archiver(self) -> None:
        """Start the process that archives, which replaces the one before."""
        with (self.folder / "archiver.log").open("ab") as log:
            self.archiver = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.archiver"],
                cwd=PROJECT,
                env=self.web_servers[0].environment | {"ARCHIVE_PAUSE_P95_MS": "60000"},
                stdout=log,
                stderr=log,
                preexec_fn=signal_on_parent_death(signal.SIGKILL),  # a killed test run leaves no process behind
            )

    def restart_ended_jobs(self) -> None:
        """Restart and count each job process that has ended by itself, as a supervisor does.

        Celery's worker ends if a process of its pool is killed before it has started.
        """
        for kind, job in self.jobs.items():
            if job.process.poll() is not None:
                self.restarted[kind] += 1
                self.start_job(kind)
        if self.archiver is not None and self.archiver.poll() is not None:
            self.restarted["archiver"] += 1
            self.start_archiver()

    def kill_archiver(self) -> None:
        """Kill the process that archives, if there is one."""
        if self.archiver is not None:
            self.archiver.kill()
            self.archiver.wait()
            self.archiver = None

    def main_process(self, name: str) -> psutil.Process | None:
        """Return the main process of `postgres` or `redis`; None while it is not ready."""
        recorded = state.read(open_site(self.home), name)
        return running_process(recorded) if recorded and recorded.ready else None

    def wait_for_restart(self, name: str, old: psutil.Process) -> None:
        """Wait until the keeper has replaced the main process `old`."""
        wait_until(
            lambda: self.main_process(name) not in (None, old),
            f"{name} was not restarted",
            timeout=3 * MAX_WAIT_SECONDS,
        )

    @contextlib.contextmanager
    def maintenance_connection(self) -> Iterator[Connection]:
        """Wait for the server, and provide a connection to its database `postgres`."""
        engine = create_engine(
            self.engine.url.set(database="postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )
        wait_until(lambda: accepts_connections(engine), "PostgreSQL accepts no connection")
        with engine.connect() as connection:
            yield connection

    def provider_requests(self) -> list[Any]:
        """Return every request that the provider has received."""
        url = "http://{}:{}/seen".format(*self.provider)
        return list(self.web_servers[0].http.request("GET", url, timeout=60).json()["requests"])

    def resume_later(self, seconds: float, process: psutil.Process) -> None:
        """Resume a suspended process after `seconds`."""

        def resume() -> None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

        timer = threading.Timer(seconds, resume)
        self._timers.append(timer)
        timer.start()

    def recover(self) -> None:
        """Wait for suspended processes, restore the proxy, and wait until both web servers are healthy."""
        for timer in self._timers:
            timer.join()
        self.proxy.repair()
        for web in self.web_servers:
            wait_until(lambda web=web: web.health() == 200, f"unhealthy after the last fault; see {web.log_path}")

    def stop(self) -> None:
        """End every started process."""
        for timer in self._timers:
            timer.join()
        self.kill_archiver()
        for job in self.jobs.values():
            job.kill_group()
        for web in self.web_servers:
            web.close()
        self.proxy.cut()
        if hasattr(self, "provider_proxy"):
            self.provider_proxy.cut()
        for log in (self.home / "log").glob("*.log"):  # PostgreSQL's and Redis', which are deleted with their home
            shutil.copy(log, self.folder)


def accepts_connections(engine: Engine) -> bool:
    """Return whether the engine's server accepts a connection."""
    try:
        with engine.connect():
            return True
    except DBAPIError:
        return False


@contextlib.contextmanager
def running_testbed(settings: Settings, folder: Path, *, archiving: bool = True) -> Iterator[Testbed]:
    """Start a testbed with its logs in `folder`, and stop it afterwards."""
    with (
        own_postgres() as (database_url, home),
        application(settings, database_url) as (flask_app, engine),
        embedded.lease_redis(home) as redis,
    ):
        testbed = Testbed(folder, home, database_url, redis.url, flask_app, engine)
        try:
            testbed.start(archiving=archiving)
            yield testbed
        finally:
            testbed.stop()
