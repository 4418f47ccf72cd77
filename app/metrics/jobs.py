"""Metrics of jobs: each run, recorded by its worker, and the history and queues, read by one job."""

from datetime import timedelta
from typing import Literal

from app.metrics.external_gauges import record_external_gauges
from app.metrics.process import record_process
from app.metrics.registry import OTHER, LabelledChildren, external_gauge, gauge, histogram

JobOutcome = Literal["succeeded", "failed", "retried", "cancelled", "skipped"]

_TTL = timedelta(minutes=10)  # of values that a job reads every 30 seconds
_MAX_SERIES = 200  # more than jobs times outcomes

JOB_RUNTIME = histogram(
    "job_runtime_seconds",
    "Duration of one run of a job.",
    ("job_name", "outcome"),
    buckets=(0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600),
)
QUEUE_WAIT = histogram(
    "queue_wait_seconds",
    "Time from a job's due time to its start.",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600),
)
BEAT_LAST_TICK_TIMESTAMP = gauge(
    "beat_last_tick_timestamp_seconds",
    "Unix time at which a worker last ran the job that beat sends every 30 seconds.",
    mode="mostrecent",
)
JOB_LAST_SUCCESS_TIMESTAMP = external_gauge(
    "job_last_success_timestamp_seconds", "Unix time of a job's last successful run; 0 if there is none.", ("job_name",)
)
JOB_LAST_ATTEMPT_TIMESTAMP = external_gauge(
    "job_last_attempt_timestamp_seconds", "Unix time of a job's last run with any outcome.", ("job_name",)
)
QUEUE_LENGTH = external_gauge("queue_length", "Jobs waiting in a queue.", ("queue",))

# Exposed from the start, so that a sum is 0 and not absent before the first failure.
JOB_RUNTIME.series = [(OTHER, outcome) for outcome in ("succeeded", "failed", "retried", "cancelled", "skipped")]
_runtimes = LabelledChildren(JOB_RUNTIME, limit=_MAX_SERIES, overflow=(OTHER, OTHER))


def record_job(job: str, outcome: JobOutcome, seconds: float) -> None:
    """Record the end of a run of the job with that wire name, such as `turns.close_stale`."""
    _runtimes[job, outcome].observe(seconds)
    record_process()


def record_queue_wait(seconds: float) -> None:
    """Record how long after its due time a job has started.

    Negative times count as zero, because the clocks of two hosts differ.
    """
    QUEUE_WAIT.metric.observe(max(0.0, seconds))


def record_beat_tick(timestamp: float) -> None:
    """Record that beat's own job has run, at `timestamp` (Unix time in seconds)."""
    BEAT_LAST_TICK_TIMESTAMP.metric.set(timestamp)


def record_job_history(last_success: dict[str, float], last_attempt: dict[str, float]) -> None:
    """Record when each job last succeeded and last ran (Unix time in seconds), as the database has it."""
    record_external_gauges(
        "jobs",
        {
            JOB_LAST_SUCCESS_TIMESTAMP: {(job,): timestamp for job, timestamp in last_success.items()},
            JOB_LAST_ATTEMPT_TIMESTAMP: {(job,): timestamp for job, timestamp in last_attempt.items()},
        },
        ttl=_TTL,
    )


def record_queue_lengths(lengths: dict[str, int]) -> None:
    """Record how many jobs wait in each queue, as the broker has it."""
    record_external_gauges("queues", {QUEUE_LENGTH: {(queue,): length for queue, length in lengths.items()}}, ttl=_TTL)
