"""The job that shows that the beat beats, and reads what all processes of this host show of the jobs."""

from dataclasses import dataclass
from datetime import datetime
from time import time
from typing import Any

from celery import current_app

from app.jobs import INTERACTIVE, MAINTENANCE
from app.metrics.jobs import record_beat_tick, record_job_history, record_queue_lengths
from ops import catalogue
from ops.care.job_runs import close_lost, job_times
from tasks.base import job


@dataclass(frozen=True, slots=True)
class Tick:
    """`closed` runs had lost their worker; `waiting` messages are in each queue."""

    closed: int
    waiting: dict[str, int]


@job(catalogue.BEAT_TICK)
def tick() -> Tick:
    lost = close_lost()
    times = job_times()
    waiting = _queue_lengths()
    record_job_history(
        {known.job: _seconds(known.succeeded) for known in times},
        {known.job: _seconds(known.attempted) for known in times},
    )
    record_queue_lengths(waiting)
    record_beat_tick(time())
    return Tick(lost.closed, waiting)


def _queue_lengths() -> dict[str, int]:
    with current_app.connection_for_read() as connection:
        return {name: _length(connection, name) for name in (INTERACTIVE, MAINTENANCE)}


def _length(connection: Any, name: str) -> int:
    try:
        with connection.channel() as channel:
            return int(channel.queue_declare(queue=name, passive=True).message_count)
    except connection.channel_errors:  # nothing was ever sent, or in Redis: nothing waits
        return 0


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0.0
