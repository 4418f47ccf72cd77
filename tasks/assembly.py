"""Assembly of a Celery worker for a list of jobs."""

import os
from collections.abc import Sequence
from datetime import timedelta

from celery import Celery, signals
from flask import Flask

from app.database import current_engines
from app.jobs import make_celery
from app.metrics.process import record_process_begun
from ops.catalogue.declarations import Job
from tasks import cancellation, transport
from tasks.base import GRACE_SECONDS
from tasks.logs import configure_celery_logs

# The visibility timeout exceeds the longest job, so that a message is not redelivered while its job runs; not by much,
# because the messages of a killed worker are redelivered only after it.
VISIBILITY_MARGIN = timedelta(seconds=30)
RESTORE_INTERVAL_SECONDS = 10


def make_worker(
    flask_app: Flask,
    broker_url: str,
    jobs: Sequence[Job],
    *,
    concurrency: int,
    visibility_margin: timedelta = VISIBILITY_MARGIN,
    restore_interval_seconds: int = RESTORE_INTERVAL_SECONDS,
) -> Celery:
    """Make a worker for `jobs`; they run in the context of `flask_app`."""
    transport.install()
    cancellation.install()
    celery_app = make_celery(broker_url)
    celery_app.flask_app = flask_app
    flask_app.extensions["jobs"].broker = lambda: broker_url  # a job may enqueue another job
    longest = max(job.time_limit for job in jobs) + timedelta(seconds=GRACE_SECONDS) + visibility_margin
    celery_app.conf.update(
        worker_concurrency=concurrency,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=60,  # seconds; on a busy machine a process starts slowly, and Celery would kill it
        worker_lost_wait=2,  # seconds; to read the last result of a process that has died
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # retry until the broker is back
        broker_channel_error_retry=True,  # and until it accepts writes: a full Redis, a replica, a full disk
    )
    if broker_url.startswith("redis"):
        celery_app.conf.broker_transport_options |= {
            "socket_timeout": 30,
            "visibility_timeout": longest.total_seconds(),
            "unacked_restore_interval": restore_interval_seconds,
            "unacked_restore_throttle": 1,
        }
    configure_celery_logs()
    signals.worker_process_init.connect(lambda **_: _init_process(flask_app), weak=False)
    return celery_app


def _init_process(flask_app: Flask) -> None:
    """Drop the parent's connections in a pool process, and give it a process group of its own.

    So a SIGTERM to the parent's group, as honcho sends it, does not end a running job: the parent ends its processes.
    If the parent is killed, the kernel ends them; Celery arranges that on Linux.
    """
    with flask_app.app_context():
        for engine in current_engines().values():
            engine.dispose(close=False)
    record_process_begun("worker")
    os.setpgid(0, 0)
