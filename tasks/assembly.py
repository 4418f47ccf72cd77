"""How a Celery worker is put together, of whichever jobs it is given."""

import os
from collections.abc import Sequence
from datetime import timedelta

from celery import Celery, signals
from flask import Flask

from app.extensions import db
from app.jobs import make_celery
from ops.declarations import Job
from tasks import transport
from tasks.base import GRACE_SECONDS
from tasks.logs import use_our_logs

# Longer than the longest job, so that nobody gets a message that somebody still works on; not much longer, because a
# killed worker's messages come back after it.
VISIBILITY_MARGIN = timedelta(seconds=30)
LOOK_FOR_LOST_SECONDS = 10


def make_worker(
    flask_app: Flask,
    broker_url: str,
    jobs: Sequence[Job],
    *,
    concurrency: int,
    visibility_margin: timedelta = VISIBILITY_MARGIN,
    look_for_lost_seconds: int = LOOK_FOR_LOST_SECONDS,
) -> Celery:
    """A worker for `jobs`, whose modules the caller has imported; they run in the context of `flask_app`."""
    transport.install()
    celery_app = make_celery(broker_url)
    celery_app.flask_app = flask_app
    flask_app.extensions["jobs"].broker = lambda: broker_url  # a job may ask for another
    longest = max(job.longest for job in jobs) + timedelta(seconds=GRACE_SECONDS) + visibility_margin
    celery_app.conf.update(
        worker_concurrency=concurrency,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=60,  # seconds; on a busy machine a process starts slowly, and Celery would kill it
        worker_lost_wait=2,  # seconds; for what a process that has died may have said last
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker outlasts any absence of its broker
    )
    if broker_url.startswith("redis"):
        celery_app.conf.broker_transport_options |= {
            "socket_timeout": 30,
            "visibility_timeout": longest.total_seconds(),
            "unacked_restore_interval": look_for_lost_seconds,
            "unacked_restore_throttle": 1,
        }
    use_our_logs()
    signals.worker_process_init.connect(lambda **_: _begin_process(flask_app), weak=False)
    return celery_app


def _begin_process(flask_app: Flask) -> None:
    """In each pool process: nothing of the parent's connections, and a group of its own.

    So a SIGTERM to the parent's whole group, as honcho sends it, lets the job under way end: it is the parent that ends
    its processes. A parent that is killed takes them along; Celery arranges that (Linux).
    """
    with flask_app.app_context():
        for engine in db.engines.values():
            engine.dispose(close=False)
    os.setpgid(0, 0)
