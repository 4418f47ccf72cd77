"""Cancellation of a job's message: a waiting one does not begin, a running one is ended, and neither is retried.

The cancellation is stored first. A worker reads it when it receives the message, so a queued message needs no worker to
be cancelled, and a message that is delivered again after its process was killed does not begin again.
"""

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from app.database import autocommit
from app.enums import JobRunStatus
from app.errors import Conflict, NotFound
from app.jobs import job_broker
from app.repositories import job_cancellations as sql
from ops.runs.actors import Actor
from ops.runs.reasons import checked_reason
from ops.runs.waiting import WaitingMessage, find_waiting
from ops.runs.workers import REPLY_SECONDS, require_broker, unreachable

GRACE_SECONDS = 10.0  # for a running job to clean up before its process is killed
_MOVING_SECONDS = 0.3  # a message that a worker receives is for a moment in no list of the broker


class CancelledWhile(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellableRun:
    """A message that waits, or runs, or waits to be tried again. `job` is None if the broker does not show it."""

    message_id: str
    job: str | None
    run_id: UUID | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelledRun:
    """A message that was cancelled."""

    message_id: Annotated[str, "Id of the message; no further run of it begins."]
    job: Annotated[str | None, "Name of the job; null if the broker does not show its messages."]
    run_id: Annotated[UUID | None, "Its last recorded run; null before the first."]
    cancelled_while: Annotated[CancelledWhile, "Whether it ran."]
    worker: Annotated[str | None, "Worker that ends it; null if it did not run, or if no worker replied that it does."]
    pid: Annotated[int | None, "Process that is signalled, and killed after ten seconds; null likewise."]


def find_cancellable(run_or_message: UUID) -> CancellableRun:
    """Find a message by its id, or by that of one of its runs.

    Raises `NotFound` for another id, `Conflict` if it has ended or is a command's, and `Unavailable` without a broker.
    """
    with autocommit() as connection:
        row = sql.LAST_RUN.one(connection, {"id": run_or_message})
    if row is not None and row.message_id is None:
        raise Conflict(f"The run {row.id} of {row.job} belongs to a command on {row.worker}: end it there with Ctrl-C.")
    if row is not None and row.status == JobRunStatus.RUNNING:
        return CancellableRun(
            message_id=row.message_id, job=row.job, run_id=row.id, arguments=dict(row.arguments or {})
        )
    message_id = str(run_or_message) if row is None else row.message_id
    waiting, is_known = _find_waiting(message_id)
    if waiting is not None:
        run_id = row.id if row is not None else None
        return CancellableRun(message_id=message_id, job=waiting.job, run_id=run_id, arguments=waiting.arguments)
    if row is not None:
        raise Conflict(f"The run {row.id} of {row.job} has ended, it is {row.status}, and no retry of it waits.")
    if is_known:
        raise NotFound(f"No run and no waiting message has the id {run_or_message}: see `flask ops jobs history`.")
    return CancellableRun(message_id=message_id, job=None)


def cancel_run(found: CancellableRun, *, reason: str, by: Actor) -> CancelledRun:
    """Store the cancellation, then have the worker end the run if there is one. Returns within about a second.

    Raises `InvalidInput` for a reason out of bounds, and `Unavailable` if the workers cannot be reached; the
    cancellation is stored then.
    """
    values = {"message_id": found.message_id, "reason": checked_reason(reason), "by": by.name[:255]}
    with autocommit() as connection:
        sql.CANCEL.one(connection, values)
        row = sql.LAST_RUN.one(connection, {"id": found.run_id or UUID(found.message_id)})  # it may have begun
    if row is None or row.status != JobRunStatus.RUNNING:
        return _report(found, row, CancelledWhile.WAITING, {})
    require_broker()
    try:
        ending = job_broker().cancel_running(found.message_id, grace=GRACE_SECONDS, seconds=REPLY_SECONDS)
    except Exception as error:  # each broker's client has its own
        raise unreachable(error) from None
    return _report(found, row, CancelledWhile.RUNNING, ending)


def _report(found: CancellableRun, row: Any, state: CancelledWhile, ending: dict[str, int]) -> CancelledRun:
    worker, pid = next(iter(ending.items()), (None, None))
    return CancelledRun(
        message_id=found.message_id,
        job=found.job if row is None else row.job,
        run_id=found.run_id if row is None else row.id,
        cancelled_while=state,
        worker=worker,
        pid=pid,
    )


def _find_waiting(message_id: str) -> tuple[WaitingMessage | None, bool]:
    """Return the waiting message if there is one, and whether the broker shows its messages."""
    require_broker()
    try:
        found = find_waiting(message_id)
        if found is None:
            time.sleep(_MOVING_SECONDS)
            found = find_waiting(message_id)
    except NotImplementedError:
        return None, False
    except Exception as error:  # each broker's client has its own
        raise unreachable(error) from None
    return found, True
