"""The environment of all benchmarks: a database, web servers, a provider and accounts; and the resources used."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from flask import Flask
from sqlalchemy import Engine, text

from app.config import load_settings
from tests.factories import LoggedInUser, insert_user
from tests.faults.live_server import PROJECT, LiveServer, application, own_postgres
from tests.metrics.scrape import Scrape, parse
from tests.settings import default_settings

WORKERS = 2


class BenchServer(LiveServer):
    """Parley with WORKERS web workers, whose provider is tests/bench/provider.py."""

    def start(self, *, pieces: int, pause: float, wsgi: str = "wsgi:flask_app") -> None:
        """Start provider and gunicorn, and wait until both respond."""
        provider = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.provider", str(pieces), str(pause)], cwd=PROJECT, stdout=subprocess.PIPE
        )
        self._started.append(provider)
        assert provider.stdout is not None
        self.environment |= {
            "AI_PROVIDER": "compatible",
            "OPENAI_BASE_URL": provider.stdout.readline().decode().strip(),
            "WEB_WORKERS": str(WORKERS),
            "CHAT_MAX_RUNNING": "5000",
            "CHAT_MAX_RUNNING_PER_USER": "100",
            "LOG_LEVEL": "WARNING",
            # Requests are counted as in production, but never reach a limit.
            **{f"RATE_LIMIT_{scope}": "1000000" for scope in ("USER", "KEY", "ADDRESS", "REGISTER")},
        }
        self.wsgi = wsgi
        self.start_web()

    def metrics(self) -> Scrape:
        """Return the current metrics."""
        return parse(self.http.request("GET", f"{self.url}/metrics").data.decode())


@dataclass
class Environment:
    """A separate database, and an application to create accounts with."""

    database_url: str
    flask_app: Flask
    engine: Engine
    home: Path  # of the database

    def accounts(self, count: int) -> list[LoggedInUser]:
        """Create `count` accounts."""
        return [insert_user(self.flask_app, self.engine) for _ in range(count)]

    def analyze(self) -> None:
        """Update PostgreSQL's statistics to the current size of the tables."""
        with self.engine.connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))

    @contextlib.contextmanager
    def server(
        self, *, pieces: int, pause: float, wsgi: str = "wsgi:flask_app", **settings: str
    ) -> Iterator[BenchServer]:
        """Run a server whose provider sends `pieces`, `pause` seconds apart; `settings` are environment variables."""
        with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
            server = BenchServer(Path(folder), self.database_url, **settings)
            try:
                server.start(pieces=pieces, pause=pause, wsgi=wsgi)
                yield server
            finally:
                server.close()


@contextlib.contextmanager
def open_environment() -> Iterator[Environment]:
    """Start a separate PostgreSQL with the schema, durable as in production."""
    default_settings()  # removes every setting from the environment
    os.environ["ACCESS_TOKEN_MINUTES"] = "1440"  # longer than any benchmark
    with own_postgres() as (url, home), application(load_settings(env_file=None), url) as (flask_app, engine):
        yield Environment(url, flask_app, engine, home)


@dataclass
class ResourceUsage:
    """Resources that processes have used: CPU seconds of all, and bytes of memory of the largest."""

    cpu: float
    largest: int

    @staticmethod
    def of(processes: list[psutil.Process]) -> "ResourceUsage":
        """Measure `processes`."""
        times = [process.cpu_times() for process in processes]
        return ResourceUsage(
            sum(time.user + time.system for time in times), max(process.memory_info().rss for process in processes)
        )


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed; NaN without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
