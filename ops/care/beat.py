"""The job that shows that the beat beats, and reads for all processes of this host what there is to say of the jobs."""

from dataclasses import dataclass
from datetime import datetime
from time import time

from app.jobs import job_queue
from app.metrics.jobs import record_beat_tick, record_job_history, record_queue_lengths
from ops.care.job_runs import close_lost, job_times


@dataclass(frozen=True, slots=True)
class Tick:
    """`closed` runs had lost their worker; `waiting` messages are in each queue."""

    closed: int
    waiting: dict[str, int]


def tick() -> Tick:
    """Record that a worker ran this, when each job last ran, and how many messages wait."""
    lost = close_lost()
    times = job_times()
    waiting = job_queue().lengths()
    record_job_history(
        {known.job: _seconds(known.succeeded) for known in times},
        {known.job: _seconds(known.attempted) for known in times},
    )
    record_queue_lengths(waiting)
    record_beat_tick(time())
    return Tick(lost.closed, waiting)


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0.0
