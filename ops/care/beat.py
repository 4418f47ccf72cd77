"""The job that shows that the beat beats, and reads for all processes of this host what there is to say of the jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time

from app.jobs import job_queue
from app.metrics.jobs import record_beat_tick, record_job_history, record_queue_lengths
from ops.care.job_runs import JobTimes, close_lost, job_times, remember_known
from ops.catalogue import BEAT_TICK


@dataclass(frozen=True, slots=True)
class Tick:
    """`closed` runs had lost their worker; `waiting` messages are in each queue. Before this one nothing was heard of
    the beat for `silent_seconds`; None if it never was.
    """

    closed: int
    waiting: dict[str, int]
    silent_seconds: float | None


def tick() -> Tick:
    """Record that a worker ran this, since when each job is known, when it last ran, and how many messages wait."""
    lost = close_lost()
    remember_known()
    times = job_times()
    waiting = job_queue().lengths()
    record_job_history(
        {known.job: _seconds(known.succeeded) for known in times},
        {known.job: _seconds(known.attempted) for known in times},
    )
    record_queue_lengths(waiting)
    record_beat_tick(time())
    return Tick(lost.closed, waiting, _silence(times))


def _silence(times: Sequence[JobTimes]) -> float | None:
    """This run is not among those that have succeeded."""
    heard = next((known.succeeded for known in times if known.job == BEAT_TICK.name), None)
    return round((datetime.now(UTC) - heard).total_seconds(), 1) if heard else None


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0.0
