"""What ran, when, and what came of it; and what is due next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.repositories import job_runs as sql
from ops.care.batches import autocommit
from ops.catalogue import JOBS
from ops.declarations import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOverview:
    """A job as it stands. `last` is how its last run ended, `due` its next slot; None where there is none."""

    job: str
    when: str
    last: str | None
    attempted: datetime | None
    succeeded: datetime | None
    due: datetime | None
    does: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """One run of one job; `seconds` is None while it is under way."""

    id: UUID
    job: str
    status: str
    started_at: datetime
    seconds: float | None
    attempt: int
    worker: str | None
    reason: str | None
    report: dict[str, Any] | None


def overview(*, now: datetime, jobs: Sequence[Job] = JOBS) -> list[JobOverview]:
    """Every job of the catalogue, in its order."""
    with autocommit() as connection:
        rows = {row.job: row for row in sql.LAST.all(connection, {"jobs": [job.name for job in jobs]})}
    return [
        JobOverview(
            job=job.name,
            when=str(job.schedule) if job.schedule else "when asked for",
            last=rows[job.name].status,
            attempted=rows[job.name].attempted,
            succeeded=rows[job.name].succeeded,
            due=job.schedule.next_slot(now) if job.schedule else None,
            does=job.does,
        )
        for job in jobs
    ]


def past_run(run_id: UUID) -> PastRun | None:
    """The run with that id, if it is kept."""
    with autocommit() as connection:
        row = sql.ONE.one(connection, {"id": run_id})
    return None if row is None else PastRun(**row._mapping)


def history(
    *, job: str | None = None, status: str | None = None, after: UUID | None = None, limit: int = 20
) -> list[PastRun]:
    """The newest runs first, up to `limit`; `after` goes on behind that run."""
    parameters = {"job": job, "status": status, "after": after, "limit": limit}
    with autocommit() as connection:
        return [PastRun(**row._mapping) for row in sql.HISTORY.all(connection, parameters)]
