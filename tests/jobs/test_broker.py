"""An unreachable, killed or silent broker: requests succeed, and worker and beat continue afterwards."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.jobs import INTERACTIVE, JobQueue, enqueue
from ops import embedded
from tests.faults.proxy import Proxy
from tests.jobs.conftest import through
from tests.jobs.processes import PROJECT, SECONDS, CeleryProcess, SilentServer
from tests.jobs.sample_jobs import BLOCK, ECHO, EVERY_SECOND
from tests.ops.conftest import server_process, wait_gone
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-broker")]

Runs = Callable[..., list[Any]]


def enqueueing_app(settings: Settings, url: str) -> Flask:
    """Create an application with a route that enqueues a job."""
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(url)})
    flask_app = create_app(replace(settings, jobs=jobs))

    @flask_app.get("/enqueue/<word>")
    def enqueue_echo(word: str) -> str:
        enqueue(ECHO.name, word=word)
        return "enqueued"

    return flask_app


@pytest.fixture
def enqueueing(settings: Settings, broker: str, broker_proxy: Proxy, engine: Engine) -> Iterator[Flask]:
    flask_app = enqueueing_app(settings, through(broker_proxy, broker))
    yield flask_app
    with flask_app.app_context():
        db.engine.dispose()


@contextmanager
def public_folder() -> Iterator[Path]:
    """Create a folder that the user of the embedded server may enter."""
    with tempfile.TemporaryDirectory(prefix="parley-jobs-") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "home"


def job_queue(flask_app: Flask) -> JobQueue:
    """Return the application's queue."""
    queue: JobQueue = flask_app.extensions["jobs"]
    return queue


def block_statuses(runs: Runs, key: str) -> list[str]:
    """Return the statuses of the blocking job's runs with this key."""
    return [run.status for run in runs(job=BLOCK) if run.arguments == {"key": key}]


def echo_runs(runs: Runs, word: str) -> list[Any]:
    """Return the successful runs of the echo job with this word."""
    return [run for run in runs(job=ECHO) if run.arguments == {"word": word} and run.status == "succeeded"]


def test_unreachable_broker_affects_no_request_and_worker_and_beat_reconnect(
    enqueueing: Flask,
    start: Callable[..., CeleryProcess],
    broker_proxy: Proxy,
    broker: str,
    runs: Runs,
    marks: Path,
    queue: "redis.Redis[bytes]",
    sender: Celery,
) -> None:
    worker = start("worker", CELERY_BROKER_URL=through(broker_proxy, broker)).wait_for_log(" ready.")
    beat = start("beat", CELERY_BROKER_URL=through(broker_proxy, broker)).wait_for_log("beat started")
    client, jobs = enqueueing.test_client(), job_queue(enqueueing)
    answer = client.get("/enqueue/before", headers={"X-Request-ID": "my-request"})
    assert answer.status_code == 200
    [run] = wait_until(lambda: echo_runs(runs, "before"))
    assert run.request_id == run.report["request_id"] == "my-request"
    assert run.queued_at is not None
    for key in ("during", "after"):  # these jobs run while the broker becomes unreachable
        sender.send_task(BLOCK.name, kwargs={"key": key}, queue=INTERACTIVE)
        wait_until((marks / f"{key}.run0").exists)

    broker_proxy.cut()
    assert client.get("/enqueue/lost").status_code == 200
    assert jobs.drain(SECONDS)
    assert jobs.counts == {"sent": 1, "dropped": 1}
    worker.wait_for_log("Cannot connect")
    (marks / "during.go").touch()
    wait_until(lambda: block_statuses(runs, "during") == ["succeeded"])

    broker_proxy.repair()
    assert client.get("/enqueue/after").status_code == 200
    (marks / "after.go").touch()
    wait_until(lambda: echo_runs(runs, "after"))
    ticks = len(runs(job=EVERY_SECOND))
    wait_until(lambda: len(runs(job=EVERY_SECOND)) > ticks + 2)  # they started after the outage
    assert jobs.drain(SECONDS)
    assert jobs.counts == {"sent": 2, "dropped": 1}
    assert not echo_runs(runs, "lost")
    assert (worker.process.poll(), beat.process.poll()) == (None, None)
    # Only the job that ended during the outage could not be acknowledged.
    wait_until(lambda: queue.hlen("unacked") == 1)
    assert block_statuses(runs, "during") == block_statuses(runs, "after") == ["succeeded"]


def test_killed_broker_keeps_the_messages_on_its_disk(
    settings: Settings, engine: Engine, start: Callable[..., CeleryProcess], runs: Runs
) -> None:
    with public_folder() as home, embedded.lease_redis(home) as lease:
        flask_app = enqueueing_app(settings, lease.url)
        client, jobs = flask_app.test_client(), job_queue(flask_app)
        client.get("/enqueue/stored")
        assert jobs.drain(SECONDS)
        with redis.Redis.from_url(lease.url) as connection:  # it may write up to two seconds later
            wait_until(lambda: connection.info("persistence")["aof_buffer_length"] == 0)
        server = server_process(home, "redis")
        server.kill()
        wait_gone(server)
        worker = start("worker", CELERY_BROKER_URL=lease.url).wait_for_log(" ready.")
        wait_until(lambda: echo_runs(runs, "stored"), worker.log)
        server_process(home, "redis").kill()
        wait_until(
            lambda: client.get("/enqueue/restarted").status_code == 200 and echo_runs(runs, "restarted"), worker.log
        )
        assert worker.process.poll() is None
        worker.end()
        with flask_app.app_context():
            db.engine.dispose()


def test_request_does_not_wait_for_a_silent_broker(settings: Settings, engine: Engine) -> None:
    with SilentServer() as port:
        flask_app = enqueueing_app(settings, f"redis://127.0.0.1:{port}/0")
        assert flask_app.test_client().get("/enqueue/lost").status_code == 200
        jobs = job_queue(flask_app)
        assert not jobs.counts  # the response came before the message was sent or dropped
        assert jobs.drain(SECONDS)
        assert jobs.counts == {"dropped": 1}
        with flask_app.app_context():
            db.engine.dispose()


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from app.jobs import JobQueue, Message

switches = 0
def count_switches():
    global switches
    while True:
        switches += 1
        gevent.sleep(0.001)

gevent.spawn(count_switches)
gevent.sleep(0)
jobs = JobQueue(lambda: sys.argv[1])
jobs.put(Message("sample.echo", {}))
before = switches
jobs.drain(60)
print(dict(jobs.counts), switches > before + 20)
"""


def test_silent_broker_blocks_no_greenlet() -> None:
    with SilentServer() as port:
        done = subprocess.run(
            [sys.executable, "-c", GEVENT, f"redis://127.0.0.1:{port}/0"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.stdout.strip() == "{'dropped': 1} True", done.stderr
