"""A Redis that answers and refuses to be written to: out of memory, a replica, too few replicas."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask import Flask
from sqlalchemy import Engine

from app.config import Settings
from app.extensions import db
from app.jobs import BrokerState, job_broker
from app.services.health import readiness
from ops import embedded
from tests.jobs.processes import SECONDS, CeleryProcess
from tests.jobs.sample_jobs import EVERY_SECOND
from tests.jobs.test_broker import echo_runs, enqueueing_app, job_queue, public_folder
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-refusals")]

# Each entry: how the server is made to refuse writes, and how to accept them again.
REFUSALS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "out of memory": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "replica": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    "too few replicas": (
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
}


@pytest.fixture(scope="module")
def lease() -> Iterator[embedded.Lease]:
    with public_folder() as home, embedded.lease_redis(home, durable=False) as lease:
        yield lease


@pytest.fixture(params=REFUSALS)
def refusal(request: pytest.FixtureRequest, lease: embedded.Lease) -> Iterator[tuple[Callable[[], None], ...]]:
    """Yield a function that makes the server refuse writes, and one that makes it accept them."""
    begin, end = REFUSALS[request.param]
    with redis.Redis.from_url(lease.url) as server:
        yield lambda: server.execute_command(*begin), lambda: server.execute_command(*end)
        server.execute_command(*end)


def test_worker_and_beat_wait_until_the_broker_accepts_writes(
    settings: Settings,
    engine: Engine,
    start: Callable[..., CeleryProcess],
    runs: Callable[..., list[Any]],
    lease: embedded.Lease,
    refusal: tuple[Callable[[], None], Callable[[], None]],
    request: pytest.FixtureRequest,
) -> None:
    refuse, accept = refusal
    flask_app: Flask = enqueueing_app(settings, lease.url)
    client, jobs, word = flask_app.test_client(), job_queue(flask_app), request.node.callspec.id
    worker = start("worker", CELERY_BROKER_URL=lease.url).wait_for_log(" ready.")
    beat = start("beat", CELERY_BROKER_URL=lease.url).wait_for_log("beat started")
    wait_until(lambda: runs(job=EVERY_SECOND))

    refuse()
    second = start("worker", CELERY_BROKER_URL=lease.url)
    assert client.get("/enqueue/lost").status_code == 200
    assert jobs.drain(SECONDS)
    assert jobs.counts == {"dropped": 1}
    with flask_app.app_context():
        report = job_broker().check()
        assert report is not None
        assert report.state is BrokerState.READ_ONLY
        assert readiness().parts["broker"] == "Answers, but refuses to be written to; jobs wait."
    beat.wait_for_log("Message Error")
    ticks = len(runs(job=EVERY_SECOND))

    accept()
    wait_until(lambda: client.get(f"/enqueue/{word}").status_code == 200 and echo_runs(runs, word), worker.log)
    wait_until(lambda: len(runs(job=EVERY_SECOND)) > ticks + 2, beat.log)
    second.wait_for_log(" ready.")
    assert [process.process.poll() for process in (worker, second, beat)] == [None, None, None], worker.log()
    for process in (beat, worker, second):
        process.end()
    with flask_app.app_context():
        db.engine.dispose()
