"""Workers, their running jobs, and the queues of the broker."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from app.errors import NotFound, Unavailable
from app.jobs import QUEUES, job_broker
from app.logs import redact

REPLY_SECONDS = 1.0  # to wait for the replies of all workers to one question


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """A job that a worker runs."""

    job: Annotated[str, "Name of the job."]
    message_id: Annotated[str, "Id of its message; the recorded run has it too."]
    seconds: Annotated[float | None, "Time since it began; null if it has just been received."]
    pid: Annotated[int | None, "Process that runs it; null if it has just been received."]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker that has replied."""

    name: Annotated[str, "Its name."]
    pid: Annotated[int | None, "Its main process; null if it did not reply to all questions."]
    processes: Annotated[int | None, "Number of jobs that it can run at a time; null likewise."]
    running: Annotated[tuple[RunningJob, ...], "Jobs that it runs."]
    reserved: Annotated[int, "Messages that it has received and not begun."]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLength:
    """A queue of the broker."""

    queue: Annotated[str, "Name of the queue."]
    waiting: Annotated[int, "Messages that no worker has received."]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersReport:
    """The workers that replied in time, and the queues."""

    workers: Annotated[tuple[Worker, ...], "Workers by name. One that is stopped or hangs is missing."]
    queues: Annotated[tuple[QueueLength, ...], "Queues of the broker."]


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgedQueue:
    """A queue that was purged."""

    queue: Annotated[str, "Name of the queue."]
    deleted: Annotated[int, "Number of deleted messages."]


def read_workers(*, seconds: float = REPLY_SECONDS) -> WorkersReport:
    """Ask all workers what they run, and wait at most `seconds` for the replies to each of three questions.

    Raises `Unavailable` if the broker cannot be reached or none is configured.
    """
    require_broker()
    try:
        replies = job_broker().inspect_workers(seconds)
    except Exception as error:  # each broker's client has its own
        raise unreachable(error) from None
    queues = tuple(QueueLength(queue=name, waiting=waiting) for name, waiting in queue_lengths().items())
    return WorkersReport(workers=tuple(_worker(name, replies[name]) for name in sorted(replies)), queues=queues)


def queue_lengths() -> dict[str, int]:
    """Return the number of waiting messages by queue. Raises `Unavailable`."""
    require_broker()
    try:
        return job_broker().queue_lengths()
    except Exception as error:  # each broker's client has its own
        raise unreachable(error) from None


def purge_queue(*, queue: str) -> PurgedQueue:
    """Delete the messages of a queue that no worker has received. Raises `NotFound` and `Unavailable`."""
    if queue not in QUEUES:
        raise NotFound(f"There is no queue of this name; the queues are {' and '.join(QUEUES)}.")
    require_broker()
    try:
        return PurgedQueue(queue=queue, deleted=job_broker().purge(queue))
    except Exception as error:  # each broker's client has its own
        raise unreachable(error) from None


def _worker(name: str, replies: Mapping[str, Any]) -> Worker:
    stats, active = replies.get("stats") or {}, replies.get("active") or ()
    return Worker(
        name=name,
        pid=stats.get("pid"),
        processes=(stats.get("pool") or {}).get("max-concurrency"),
        running=tuple(_running(message) for message in active),
        reserved=len(replies.get("reserved") or ()),
    )


def _running(message: Mapping[str, Any]) -> RunningJob:
    began = message.get("time_start")
    return RunningJob(
        job=str(message.get("name")),
        message_id=str(message.get("id")),
        seconds=None if began is None else round(max(0.0, time.time() - began), 3),
        pid=message.get("worker_pid"),
    )


def require_broker() -> None:
    if not job_broker().is_configured:
        raise Unavailable("No broker is configured for this process: set CELERY_BROKER_URL.")


def unreachable(error: Exception) -> Unavailable:
    return Unavailable(f"The broker cannot be reached: {redact(f'{type(error).__name__}: {error}')}.")
