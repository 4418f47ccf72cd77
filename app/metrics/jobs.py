"""Jobs: what a worker records of each run, and what one job reads for all from the database and the broker."""

from typing import Literal

from app.metrics.readings import record_readings
from app.metrics.registry import OTHER, Children, gauge, histogram, reading

JobOutcome = Literal["succeeded", "failed", "retried", "skipped"]

_JOBS = 200  # jobs times outcomes

_RUNTIME = histogram(
    "job_runtime_seconds",
    "Time that a run of a job took.",
    ("job", "outcome"),
    buckets=(0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600),
)
_QUEUE_WAIT = histogram(
    "queue_wait_seconds",
    "Time from a job's being due in the queue to its start.",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600),
)
_BEAT = gauge(
    "beat_last_tick_timestamp_seconds",
    "When a worker last ran the job that the beat sends to show that it lives.",
    across="mostrecent",
)
_LAST_SUCCESS = reading("job_last_success_timestamp_seconds", "When a job last succeeded; 0 if it never did.", ("job",))
_LAST_ATTEMPT = reading("job_last_attempt_timestamp_seconds", "When a job last ran, however it ended.", ("job",))
_QUEUE_LENGTH = reading("queue_length", "Jobs that wait in a queue.", ("queue",))

_runtimes = Children(_RUNTIME, limit=_JOBS, overflow=(OTHER, OTHER))


def record_job(job: str, outcome: JobOutcome, seconds: float) -> None:
    """A run of the job with that wire name, such as `turns.close_stale`, has ended."""
    _runtimes[job, outcome].observe(seconds)


def record_queue_wait(seconds: float) -> None:
    """A job has been started so long after it was due. Clocks of two hosts differ: below zero counts as zero."""
    _QUEUE_WAIT.observe(max(0.0, seconds))


def record_beat_tick(timestamp: float) -> None:
    """The beat's own job has run, at `timestamp` (Unix time in seconds)."""
    _BEAT.set(timestamp)


def record_job_history(last_success: dict[str, float], last_attempt: dict[str, float]) -> None:
    """When each job last succeeded and last ran (Unix time in seconds), as the database knows it."""
    record_readings(
        "jobs",
        {
            _LAST_SUCCESS: {(job,): when for job, when in last_success.items()},
            _LAST_ATTEMPT: {(job,): when for job, when in last_attempt.items()},
        },
    )


def record_queue_lengths(lengths: dict[str, int]) -> None:
    """How many jobs wait in each queue, as the broker knows it."""
    record_readings("queues", {_QUEUE_LENGTH: {(queue,): length for queue, length in lengths.items()}})
