"""A new run of a failed, lost or cancelled one, with the same arguments."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from app.database import autocommit
from app.enums import JobRunStatus
from app.errors import Conflict, NotFound
from app.jobs import enqueue_confirmed
from app.repositories import job_runs as sql
from ops.catalogue.jobs import JOBS

_REPEATED = (JobRunStatus.FAILED, JobRunStatus.LOST, JobRunStatus.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRun:
    """A run that can be repeated."""

    id: UUID
    job: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedRun:
    """A run that was enqueued again."""

    job: Annotated[str, "Name of the job."]
    run_id: Annotated[UUID, "The run that failed."]
    message_id: Annotated[UUID, "Id of the queued message; the new run has it too."]


def find_failed_run(run_id: UUID) -> FailedRun:
    """Return a run that failed, lost its worker or was cancelled.

    Raises `NotFound` without a run of this id, and `Conflict` for one in another state or of a job that is gone.
    """
    with autocommit() as connection:
        row = sql.ARGUMENTS.one(connection, {"id": run_id})
    if row is None:
        raise NotFound(f"No run has the id {run_id}; `flask ops jobs history` lists the recorded runs.")
    if row.status not in _REPEATED:
        raise Conflict(
            f"The run {run_id} of {row.job} is {row.status}; only a failed, lost or cancelled run can be retried."
        )
    if row.job not in {job.name for job in JOBS}:
        raise Conflict(f"This version has no job {row.job}, so its run cannot be retried.")
    return FailedRun(id=run_id, job=row.job, arguments=dict(row.arguments))


def repeat_run(failed: FailedRun) -> RepeatedRun:
    """Enqueue the job with the arguments of the failed run. Raises `Unavailable`."""
    message_id = enqueue_confirmed(failed.job, **failed.arguments)
    return RepeatedRun(job=failed.job, run_id=failed.id, message_id=message_id)
