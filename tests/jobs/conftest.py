"""A Redis with one database per test process, and workers and beats of the sample jobs."""

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
from ops.catalogue.declarations import Job
from tests.database import run_folder
from tests.faults.proxy import Proxy
from tests.jobs.processes import CeleryProcess
from tests.waiting import wait_until

INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[embedded.Lease]:
    with embedded.lease_redis(run_folder(), durable=False) as lease:
        yield lease


@pytest.fixture(scope="module")
def broker(redis_server: embedded.Lease, worker_id: str) -> Iterator[str]:
    """Return the URL of an empty Redis database of this test process."""
    number = int(worker_id.removeprefix("gw")) + 1 if worker_id.startswith("gw") else 0
    url = f"{redis_server.url.rsplit('/', 1)[0]}/{number}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url


@pytest.fixture(scope="module")
def queue(broker: str) -> Iterator["redis.Redis[bytes]"]:
    """Connect to the broker's database."""
    with redis.Redis.from_url(broker) as client:
        yield client


@pytest.fixture(scope="module")
def broker_proxy(redis_server: embedded.Lease) -> Iterator[Proxy]:
    """Start a proxy to the broker."""
    with Proxy(("127.0.0.1", redis_server.port)) as proxy:
        yield proxy


def through(proxy: Proxy, url: str) -> str:
    """Return `url` with the proxy's port."""
    return url.replace(f":{urlsplit(url).port}/", f":{proxy.port}/")


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create the folder of the sample jobs' files."""
    return tmp_path_factory.mktemp("marks")


@pytest.fixture(scope="module")
def start(
    settings: Settings, flask_app: Flask, broker: str, marks: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., CeleryProcess]]:
    """Return a function that starts a `worker` or `beat` of the sample jobs; keywords are environment variables."""
    folder, started = tmp_path_factory.mktemp("celery"), list[CeleryProcess]()
    secret = settings.auth.jwt_secret_key
    assert settings.database.url is not None
    assert secret is not None

    def start_celery(kind: str, module: str = "", **variables: str) -> CeleryProcess:
        environment = {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
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

    yield start_celery
    for process in started:
        process.kill_group()


@pytest.fixture(scope="module")
def worker(start: Callable[..., CeleryProcess]) -> CeleryProcess:
    """Start one worker of the sample jobs."""
    return start("worker").wait_for_log(" ready.")


@pytest.fixture(scope="module")
def sender(broker: str) -> Iterator[Celery]:
    celery_app = make_celery(broker, set_as_current=False)
    yield celery_app
    celery_app.close()


@pytest.fixture(scope="module")
def send(sender: Celery) -> Callable[..., str]:
    """Return a function that sends a job and returns the id of its message."""

    def send_job(job: Job | str, headers: dict[str, str] | None = None, **arguments: Any) -> str:
        message_id, name = str(uuid4()), job if isinstance(job, str) else job.name
        sender.send_task(name, kwargs=arguments, task_id=message_id, queue=INTERACTIVE, headers=headers, retry=False)
        return message_id

    return send_job


@pytest.fixture(scope="module")
def runs(engine: Engine) -> Callable[..., list[Any]]:
    """Return a function that reads the runs of a message, or of a job, oldest first."""

    def read_runs(message_id: str | None = None, job: Job | None = None) -> list[Any]:
        statement = text(
            "SELECT * FROM job_runs WHERE message_id = :message_id OR job = :job ORDER BY started_at, attempt, id"
        )
        with engine.connect() as connection:
            return list(connection.execute(statement, {"message_id": message_id, "job": job.name if job else None}))

    return read_runs


@pytest.fixture(scope="module")
def wait_for_runs(runs: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Return a function that waits until a message's last run has one of `statuses`, and returns its runs."""

    def wait(message_id: str, *statuses: str) -> list[Any]:
        def ended_runs() -> list[Any]:
            rows = runs(message_id)
            return rows if rows and rows[-1].status in (statuses or ("succeeded",)) else []

        return wait_until(ended_runs)

    return wait
