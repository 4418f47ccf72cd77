"""A Redis for the whole run, of which each test process has one database; workers and beats of the sample jobs."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis
from celery import Celery
from flask import Flask
from sqlalchemy import Engine, text

from app.config import Settings
from app.jobs import INTERACTIVE, make_celery
from ops import embedded
from ops.declarations import Job
from tests.database import run_folder
from tests.jobs.processes import CeleryProcess, Gate, eventually

KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[embedded.Lease]:
    with embedded.lease_redis(run_folder(), durable=False) as lease:
        yield lease


@pytest.fixture(scope="module")
def broker(redis_server: embedded.Lease, worker_id: str) -> Iterator[str]:
    """URL of an empty database of this test process's own."""
    number = int(worker_id.removeprefix("gw")) + 1 if worker_id.startswith("gw") else 0
    url = f"{redis_server.url.rsplit('/', 1)[0]}/{number}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url


@pytest.fixture(scope="module")
def queue(broker: str) -> Iterator["redis.Redis[bytes]"]:
    """The broker's database itself."""
    with redis.Redis.from_url(broker) as client:
        yield client


@pytest.fixture(scope="module")
def gate(redis_server: embedded.Lease) -> Iterator[Gate]:
    gate = Gate(redis_server.port)
    yield gate
    gate.shut()


def through(gate: Gate, url: str) -> str:
    """`url` by way of the gate."""
    return url.replace(f":{urlsplit(url).port}/", f":{gate.port}/")


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sample jobs leave their files."""
    return tmp_path_factory.mktemp("marks")


@pytest.fixture(scope="module")
def start(
    settings: Settings, flask_app: Flask, broker: str, marks: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., CeleryProcess]]:
    """A function that starts a `worker` or `beat` of the sample jobs; keyword arguments are environment variables."""
    folder, started = tmp_path_factory.mktemp("celery"), list[CeleryProcess]()
    secret = settings.auth.jwt_secret_key
    assert settings.database.url is not None
    assert secret is not None

    def start(kind: str, module: str = "", **variables: str) -> CeleryProcess:
        environment = {
            **{name: os.environ[name] for name in KEPT if name in os.environ},
            "DATABASE_URL": str(settings.database.url),
            "CELERY_BROKER_URL": broker,
            "JWT_SECRET_KEY": secret.get_secret_value(),
            "PARLEY_HOME": str(folder / "home"),
            "JOBS_TEST_FOLDER": str(marks),
            **variables,
        }
        module = module or f"tests.jobs.sample_{kind}"
        started.append(CeleryProcess(kind, module, environment, folder / f"{kind}{len(started)}.log"))
        return started[-1]

    yield start
    for process in started:
        process.clear()


@pytest.fixture(scope="module")
def worker(start: Callable[..., CeleryProcess]) -> CeleryProcess:
    """One worker that takes messages."""
    return start("worker").says(" ready.")


@pytest.fixture(scope="module")
def sender(broker: str) -> Iterator[Celery]:
    celery_app = make_celery(broker, set_as_current=False)
    yield celery_app
    celery_app.close()


@pytest.fixture(scope="module")
def send(sender: Celery) -> Callable[..., str]:
    """A function that sends a job and returns its message's id."""

    def send(job: Job | str, headers: dict[str, str] | None = None, **arguments: Any) -> str:
        message_id, name = str(uuid4()), job if isinstance(job, str) else job.name
        sender.send_task(name, kwargs=arguments, task_id=message_id, queue=INTERACTIVE, headers=headers, retry=False)
        return message_id

    return send


@pytest.fixture(scope="module")
def runs(engine: Engine) -> Callable[..., list[Any]]:
    """A function that returns the runs of a message, or of a job, oldest first."""

    def runs(message_id: str | None = None, job: Job | None = None) -> list[Any]:
        statement = text(
            "SELECT * FROM job_runs WHERE message_id = :message_id OR job = :job ORDER BY started_at, attempt, id"
        )
        with engine.connect() as connection:
            return list(connection.execute(statement, {"message_id": message_id, "job": job.name if job else None}))

    return runs


@pytest.fixture(scope="module")
def ended(runs: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """A function that waits until a message's last run is one of `statuses`, and returns its runs."""

    def ended(message_id: str, *statuses: str) -> list[Any]:
        def found() -> list[Any]:
            rows = runs(message_id)
            return rows if rows and rows[-1].status in (statuses or ("succeeded",)) else []

        return eventually(found)

    return ended
