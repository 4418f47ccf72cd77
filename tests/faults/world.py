"""The whole platform as it really runs, to be hurt: two web servers, a worker, a beat, an archival that never stops,
a PostgreSQL and a Redis of its own, a scripted provider, and wires to that and the database that can be cut.
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
from ops.embedded.parent_death import dying_with_parent
from ops.embedded.site import open_site
from tests.faults.proxy import Proxy
from tests.faults.rig import PROJECT, SECONDS, Rig, application, own_postgres, until
from tests.jobs.processes import CeleryProcess

STALE_SECONDS = 3
PIECES = 6  # of each answer
PAUSE = 0.04  # seconds between two of them


class World:
    """Everything that runs. One web server and the jobs reach the database themselves, the other one by `proxy`."""

    def __init__(self, folder: Path, home: Path, database_url: str, broker: str, flask_app: Flask, engine: Engine):
        self.folder, self.home, self.flask_app, self.engine, self.broker = folder, home, flask_app, engine, broker
        server = make_url(database_url)
        self.proxy = Proxy((server.host or "127.0.0.1", server.port or 5432))
        wire = server.set(host="127.0.0.1", port=self.proxy.port).render_as_string(hide_password=False)
        self.webs = [
            Rig(
                folder,
                url,
                name=f"web{number}",
                WEB_WORKERS=str(workers),
                CELERY_BROKER_URL=broker,
                CHAT_STALE_SECONDS=str(STALE_SECONDS),
                LOG_LEVEL="WARNING",
                DB_CONNECT_TIMEOUT="2",
                AI_RETRIES="0",  # one request is one call, which are counted
                AI_BREAKER_SECONDS="1",
            )
            for number, (url, workers) in enumerate([(database_url, 2), (wire, 1)])
        ]
        self.jobs: dict[str, CeleryProcess] = {}
        self.started = 0
        self.archiver: subprocess.Popen[bytes] | None = None
        self.revived = Counter[str]()
        self._pending: list[threading.Timer] = []

    @property
    def urls(self) -> list[str]:
        return [web.url for web in self.webs]

    def start(self, *, archiving: bool) -> None:
        """Start everything, the archival if it is wanted, and return when it answers."""
        self.webs[0].start_upstream(f"echo(pause={PAUSE}, pieces={PIECES})")
        provider = make_url(self.webs[0].environment["OPENAI_BASE_URL"])
        self.provider = (str(provider.host), int(provider.port or 0))
        self.provider_wire = Proxy(self.provider)
        base_url = provider.set(port=self.provider_wire.port).render_as_string()
        for web in self.webs:
            web.environment |= {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": base_url}
        for kind in ("worker", "beat"):
            self.start_job(kind)
        if archiving:
            self.start_archiver()
        for web in self.webs:
            web.launch()
        for web in self.webs:
            web.wait()

    def start_job(self, kind: str) -> None:
        """A `worker` or a `beat`, in the place of the one before."""
        self.started += 1
        log = self.folder / f"{kind}{self.started}.log"
        self.jobs[kind] = CeleryProcess(kind, f"tasks.{kind}", self.webs[0].environment, log)

    def start_archiver(self) -> None:
        """A process that archives, in the place of the one before."""
        with (self.folder / "archiver.log").open("ab") as log:
            self.archiver = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.archiver"],
                cwd=PROJECT,
                env=self.webs[0].environment | {"ARCHIVE_SLOW_MS": "60000"},
                stdout=log,
                stderr=log,
                preexec_fn=dying_with_parent(signal.SIGKILL),  # a killed test run leaves none behind
            )

    def revive(self) -> None:
        """As a supervisor does: what has ended by itself is started again, and counted.

        Celery's worker ends if a process of its pool is killed before it has begun.
        """
        for kind, job in self.jobs.items():
            if job.process.poll() is not None:
                self.revived[kind] += 1
                self.start_job(kind)
        if self.archiver is not None and self.archiver.poll() is not None:
            self.revived["archiver"] += 1
            self.start_archiver()

    def end_archiver(self) -> None:
        """Kill it."""
        if self.archiver is not None:
            self.archiver.kill()
            self.archiver.wait()
            self.archiver = None

    def head(self, name: str) -> psutil.Process | None:
        """The process of `postgres` or `redis`, while it is ready."""
        known = state.read(open_site(self.home), name)
        return known.process() if known and known.ready else None

    def until_another(self, name: str, before: psutil.Process) -> None:
        """Wait until the keeper has started it again."""
        until(lambda: (found := self.head(name)) and found.pid != before.pid, f"another {name}", seconds=3 * SECONDS)

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[Connection]:
        """A connection to another database of the same server, once it answers."""
        engine = create_engine(
            self.engine.url.set(database="postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )
        until(lambda: answers(engine), "PostgreSQL, to set something back")
        with engine.connect() as connection:
            yield connection

    def seen(self) -> list[Any]:
        """Every request that the provider has got."""
        url = "http://{}:{}/seen".format(*self.provider)
        return list(self.webs[0].http.request("GET", url, timeout=60).json()["requests"])

    def later(self, seconds: float, process: psutil.Process) -> None:
        """Have a frozen process go on after a while."""

        def thaw() -> None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

        timer = threading.Timer(seconds, thaw)
        self._pending.append(timer)
        timer.start()

    def settle(self) -> None:
        """Wait until everything is well again."""
        for timer in self._pending:
            timer.join()
        self.proxy.mend()
        for web in self.webs:
            until(lambda web=web: web.health() == 200, f"a healthy server after the last fault; see {web.log}")

    def stop(self) -> None:
        """End everything that was started."""
        for timer in self._pending:
            timer.join()
        self.end_archiver()
        for job in self.jobs.values():
            job.clear()
        for web in self.webs:
            web.stop()
        self.proxy.cut()
        if hasattr(self, "provider_wire"):
            self.provider_wire.cut()
        for log in (self.home / "log").glob("*.log"):  # the servers' own, which go with their home
            shutil.copy(log, self.folder)


def answers(engine: Engine) -> bool:
    """Whether that server takes a connection."""
    try:
        with engine.connect():
            return True
    except DBAPIError:
        return False


@contextlib.contextmanager
def world(settings: Settings, folder: Path, *, archiving: bool = True) -> Iterator[World]:
    """A world that runs, and is gone afterwards."""
    with (
        own_postgres() as (database_url, home),
        application(settings, database_url) as (flask_app, engine),
        embedded.lease_redis(home) as redis,
    ):
        made = World(folder, home, database_url, redis.url, flask_app, engine)
        try:
            made.start(archiving=archiving)
            yield made
        finally:
            made.stop()
