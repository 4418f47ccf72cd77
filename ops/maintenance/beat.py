"""The job that proves that the beat works, and records the metrics of jobs for all processes of this host."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time

from app.jobs import job_broker
from app.metrics.jobs import record_beat_tick, record_job_history, record_queue_lengths
from ops.catalogue.jobs import BEAT_TICK
from ops.maintenance.catch_up import enqueue_missed
from ops.maintenance.job_runs import JobTimes, close_lost_runs, read_job_times, record_known_jobs


@dataclass(frozen=True, slots=True)
class TickReport:
    """The number of lost runs that were `closed`, and of `waiting` messages by queue.

    `silent_seconds` is the time since the last tick; null at the first one. `missed` are the jobs that did not
    run in their last slot and were enqueued now.
    """

    closed: int
    waiting: dict[str, int]
    silent_seconds: float | None
    missed: list[str]


def tick() -> TickReport:
    """Close lost runs, enqueue missed ones, and record the metrics: tick, last run of each job, queue lengths."""
    lost = close_lost_runs()
    record_known_jobs()
    times = read_job_times()
    waiting = job_broker().queue_lengths()
    record_job_history(
        {entry.job: _seconds(entry.succeeded) for entry in times},
        {entry.job: _seconds(entry.attempted) for entry in times},
    )
    record_queue_lengths(waiting)
    record_beat_tick(time())
    return TickReport(lost.closed, waiting, _silence(times), enqueue_missed(times, now=datetime.now(UTC)))


def _silence(times: Sequence[JobTimes]) -> float | None:
    """Return the seconds since the last successful tick; the current run has not succeeded yet."""
    last = next((entry.succeeded for entry in times if entry.job == BEAT_TICK.name), None)
    return round((datetime.now(UTC) - last).total_seconds(), 1) if last else None


def _seconds(time_: datetime | None) -> float:
    return time_.timestamp() if time_ else 0.0
