"""The broker goes away and comes back: nobody who asks for a job notices, and the worker goes on."""

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
from tests.jobs.conftest import through
from tests.jobs.processes import PROJECT, SECONDS, CeleryProcess, Gate, Silent, eventually
from tests.jobs.sample_jobs import BLOCK, ECHO, EVERY_SECOND
from tests.ops.conftest import server_process, wait_gone

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-broker")]

Runs = Callable[..., list[Any]]


def asking_app(settings: Settings, url: str) -> Flask:
    """An application with a route that asks for a job."""
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(url)})
    flask_app = create_app(replace(settings, jobs=jobs))

    @flask_app.get("/ask/<word>")
    def ask(word: str) -> str:
        enqueue(ECHO.name, word=word)
        return "asked"

    return flask_app


@pytest.fixture
def asking(settings: Settings, broker: str, gate: Gate, engine: Engine) -> Iterator[Flask]:
    flask_app = asking_app(settings, through(gate, broker))
    yield flask_app
    with flask_app.app_context():
        db.engine.dispose()


@contextmanager
def open_folder() -> Iterator[Path]:
    """One that the embedded server's account can enter, too."""
    with tempfile.TemporaryDirectory(prefix="parley-jobs-") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "home"


def jobs_of(flask_app: Flask) -> JobQueue:
    found: JobQueue = flask_app.extensions["jobs"]
    return found


def blocked(runs: Runs, key: str) -> list[str]:
    return [run.status for run in runs(job=BLOCK) if run.arguments == {"key": key}]


def said(runs: Runs, word: str) -> list[Any]:
    return [run for run in runs(job=ECHO) if run.arguments == {"word": word} and run.status == "succeeded"]


def test_requests_worker_and_beat_outlast_a_broker_that_goes_and_comes(
    asking: Flask,
    start: Callable[..., CeleryProcess],
    gate: Gate,
    broker: str,
    runs: Runs,
    marks: Path,
    queue: "redis.Redis[bytes]",
    sender: Celery,
) -> None:
    worker = start("worker", CELERY_BROKER_URL=through(gate, broker)).says(" ready.")
    beat = start("beat", CELERY_BROKER_URL=through(gate, broker)).says("the beat begins")
    client, jobs = asking.test_client(), jobs_of(asking)
    answer = client.get("/ask/before", headers={"X-Request-ID": "my-request"})
    assert answer.status_code == 200
    [run] = eventually(lambda: said(runs, "before"))
    assert run.request_id == run.report["request_id"] == "my-request"
    assert run.queued_at is not None
    for key in ("during", "after"):  # jobs that are under way when the broker goes
        sender.send_task(BLOCK.name, kwargs={"key": key}, queue=INTERACTIVE)
        eventually((marks / f"{key}.run0").exists)

    gate.shut()
    assert client.get("/ask/lost").status_code == 200
    assert jobs.drain(SECONDS)
    assert jobs.counts == {"sent": 1, "dropped": 1}
    worker.says("Cannot connect")
    (marks / "during.go").touch()
    eventually(lambda: blocked(runs, "during") == ["succeeded"])

    gate.open()
    assert client.get("/ask/after").status_code == 200
    (marks / "after.go").touch()
    eventually(lambda: said(runs, "after"))
    ticks = len(runs(job=EVERY_SECOND))
    eventually(lambda: len(runs(job=EVERY_SECOND)) > ticks + 2)  # from after the break
    assert jobs.drain(SECONDS)
    assert jobs.counts == {"sent": 2, "dropped": 1}
    assert not said(runs, "lost")
    assert (worker.process.poll(), beat.process.poll()) == (None, None)
    # The one that ended without a broker is the only one that could not be acknowledged.
    eventually(lambda: queue.hlen("unacked") == 1)
    assert blocked(runs, "during") == blocked(runs, "after") == ["succeeded"]


def test_a_broker_that_is_killed_has_kept_what_it_wrote_down(
    settings: Settings, engine: Engine, start: Callable[..., CeleryProcess], runs: Runs
) -> None:
    with open_folder() as home, embedded.lease_redis(home) as lease:
        flask_app = asking_app(settings, lease.url)
        client, jobs = flask_app.test_client(), jobs_of(flask_app)
        client.get("/ask/kept")
        assert jobs.drain(SECONDS)
        with redis.Redis.from_url(lease.url) as inside:  # which is up to two seconds behind on a slow disk
            eventually(lambda: inside.info("persistence")["aof_buffer_length"] == 0)
        server = server_process(home, "redis")
        server.kill()
        wait_gone(server)
        worker = start("worker", CELERY_BROKER_URL=lease.url).says(" ready.")
        eventually(lambda: said(runs, "kept"), worker.log)
        server_process(home, "redis").kill()
        eventually(lambda: client.get("/ask/again").status_code == 200 and said(runs, "again"), worker.log)
        assert worker.process.poll() is None
        worker.end()
        with flask_app.app_context():
            db.engine.dispose()


def test_a_request_does_not_wait_for_a_broker_that_is_silent(settings: Settings, engine: Engine) -> None:
    with Silent() as port:
        flask_app = asking_app(settings, f"redis://127.0.0.1:{port}/0")
        assert flask_app.test_client().get("/ask/nobody").status_code == 200
        jobs = jobs_of(flask_app)
        assert not jobs.counts  # the answer was there before anything became of the message
        assert jobs.drain(SECONDS)
        assert jobs.counts == {"dropped": 1}
        with flask_app.app_context():
            db.engine.dispose()


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from app.jobs import JobQueue, Message

turns = 0
def others():
    global turns
    while True:
        turns += 1
        gevent.sleep(0.001)

gevent.spawn(others)
gevent.sleep(0)
jobs = JobQueue(lambda: sys.argv[1])
jobs.put(Message("sample.echo", {}))
before = turns
jobs.drain(60)
print(dict(jobs.counts), turns > before + 20)
"""


def test_nothing_blocks_under_gevent() -> None:
    with Silent() as port:
        done = subprocess.run(
            [sys.executable, "-c", GEVENT, f"redis://127.0.0.1:{port}/0"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.stdout.strip() == "{'dropped': 1} True", done.stderr
