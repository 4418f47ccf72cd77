"""Job history and next due times."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.database import autocommit
from app.repositories import job_runs as sql
from ops.catalogue.declarations import Job
from ops.catalogue.jobs import JOBS
from ops.runs.pauses import paused_jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOverview:
    """A job with its last run and its next slot; None where there is none."""

    job: str
    schedule: str
    last_status: str | None
    last_started_at: datetime | None
    last_succeeded_at: datetime | None
    next_due_at: datetime | None
    paused_since: datetime | None
    pause_reason: str | None
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """One recorded run of a job; `seconds` is None while it runs."""

    id: UUID
    job: str
    status: str
    started_at: datetime
    seconds: float | None
    attempt: int
    worker: str | None
    reason: str | None
    report: dict[str, Any] | None


def job_overviews(*, now: datetime, jobs: Sequence[Job] = JOBS) -> list[JobOverview]:
    """Return an overview of `jobs`, by default all jobs, in the order of the catalogue."""
    with autocommit() as connection:
        rows = {row.job: row for row in sql.LAST.all(connection, {"jobs": [job.name for job in jobs]})}
    paused = paused_jobs()
    return [
        JobOverview(
            job=job.name,
            schedule=str(job.schedule) if job.schedule else "on request",
            last_status=rows[job.name].status,
            last_started_at=rows[job.name].attempted,
            last_succeeded_at=rows[job.name].succeeded,
            next_due_at=job.schedule.next_slot(now) if job.schedule else None,
            paused_since=paused[job.name].since if job.name in paused else None,
            pause_reason=paused[job.name].reason if job.name in paused else None,
            description=job.description,
        )
        for job in jobs
    ]


def find_run(run_id: UUID) -> RecordedRun | None:
    """Return the run with that id, or None if it was purged or never existed."""
    with autocommit() as connection:
        row = sql.ONE.one(connection, {"id": run_id})
    return None if row is None else RecordedRun(**row._mapping)


def recent_runs(
    *, job: str | None = None, status: str | None = None, after: UUID | None = None, limit: int = 20
) -> list[RecordedRun]:
    """Return up to `limit` runs, newest first; `after` is the run that the page continues after."""
    parameters = {"job": job, "status": status, "after": after, "limit": limit}
    with autocommit() as connection:
        return [RecordedRun(**row._mapping) for row in sql.HISTORY.all(connection, parameters)]
