"""What every benchmark stands on: a database, web servers on it, a provider, accounts, and what processes have used."""

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

from app.config import GROUPS, load_settings
from tests.factories import Account, make_account
from tests.faults.rig import PROJECT, Rig, application, own_postgres
from tests.metrics.scrape import Scrape, parse

WORKERS = 2


class Server(Rig):
    """Parley with WORKERS web workers, whose provider is tests/bench/provider.py."""

    def start(self, *, pieces: int, pause: float, wsgi: str = "wsgi:flask_app") -> None:
        """Provider and gunicorn; returns once both answer."""
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
            # Counted as always, and never reached.
            **{f"RATE_LIMIT_{whose}": "1000000" for whose in ("USER", "KEY", "ADDRESS", "REGISTER")},
        }
        self.wsgi = wsgi
        self.start_web()

    def metrics(self) -> Scrape:
        return parse(self.http.request("GET", f"{self.url}/metrics").data.decode())


@dataclass
class Place:
    """Where benchmarks run: a database of its own, and the application that made it, to make accounts with."""

    database_url: str
    flask_app: Flask
    engine: Engine

    def accounts(self, count: int) -> list[Account]:
        return [make_account(self.flask_app, self.engine) for _ in range(count)]

    def analyze(self) -> None:
        """Let PostgreSQL know how large the tables have become."""
        with self.engine.connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))

    @contextlib.contextmanager
    def server(self, *, pieces: int, pause: float, wsgi: str = "wsgi:flask_app", **settings: str) -> Iterator[Server]:
        """A running server; `settings` are variables of its environment."""
        with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
            server = Server(Path(folder), self.database_url, **settings)
            try:
                server.start(pieces=pieces, pause=pause, wsgi=wsgi)
                yield server
            finally:
                server.stop()


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """A PostgreSQL of its own, durable as in production, with the schema."""
    for group in GROUPS.values():
        for setting in group.model_fields.values():
            os.environ.pop(str(setting.validation_alias), None)
    os.environ["ACCESS_TOKEN_MINUTES"] = "1440"  # longer than any benchmark
    with own_postgres() as (url, _), application(load_settings(env_file=None), url) as (flask_app, engine):
        yield Place(url, flask_app, engine)


@dataclass
class Used:
    """CPU seconds that processes have used, and the memory of the largest of them, in bytes."""

    cpu: float
    largest: int

    @staticmethod
    def by(processes: list[psutil.Process]) -> "Used":
        times = [process.cpu_times() for process in processes]
        return Used(
            sum(each.user + each.system for each in times), max(process.memory_info().rss for process in processes)
        )


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
