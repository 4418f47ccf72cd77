"""The history of jobs: closing of lost runs, last run times, and the purge."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.database import autocommit
from app.repositories import job_cancellations
from app.repositories import job_runs as sql
from app.repositories.statement import Statement
from ops.catalogue.declarations import Job
from ops.catalogue.jobs import JOBS
from ops.runs.batches import PurgeReport, TimeBudget, count, purge

_MARGIN = timedelta(minutes=1)  # after a job's time limit or its cancellation, before its running run counts as ended


@dataclass(frozen=True, slots=True)
class JobTimes:
    """The times of a job's last start and last success; None if never."""

    job: str
    attempted: datetime | None
    succeeded: datetime | None


@dataclass(frozen=True, slots=True)
class LostRunsReport:
    """The number of closed runs whose worker had died."""

    closed: int
    dry_run: bool = False


def close_lost_runs(*, jobs: Sequence[Job] = JOBS, dry_run: bool = False) -> LostRunsReport:
    """Close runs that have been running for longer than their job's time limit. `dry_run` counts the running ones."""
    limits = [(job.time_limit + _MARGIN).total_seconds() for job in jobs]
    if dry_run:
        return LostRunsReport(count(sql.COUNT_RUNNING, {}), dry_run=True)
    with autocommit() as connection:
        parameters = {"jobs": [job.name for job in jobs], "limits": limits, "seconds": max(limits)}
        parameters["cancelled_seconds"] = _MARGIN.total_seconds()
        return LostRunsReport(len(sql.CLOSE_LOST.all(connection, parameters)))


def read_job_times(*, jobs: Sequence[Job] = JOBS) -> list[JobTimes]:
    """Return the times of the last start and the last success of each job."""
    with autocommit() as connection:
        rows = sql.LAST.all(connection, {"jobs": [job.name for job in jobs]})
    return [JobTimes(row.job, row.attempted, row.succeeded) for row in rows]


def record_known_jobs(*, jobs: Sequence[Job] = JOBS) -> bool:
    """Record the current time for jobs that were not known before. Returns whether there were any."""
    with autocommit() as connection:
        return sql.RECORD_KNOWN.one(connection, {"jobs": [job.name for job in jobs]}) is not None


def purge_job_runs(
    *,
    keep: timedelta,
    jobs: Sequence[Job] = JOBS,
    batch: int = 1000,
    seconds: float | None = None,
    dry_run: bool = False,
) -> PurgeReport:
    """Delete runs that began longer ago than `keep`, or than the job's `history_ttl` if that is shorter.

    Includes runs of jobs that are no longer in the catalogue, and cancellations. `seconds` limits the run.
    """
    keep_by_job = {job.name: min(keep, job.history_ttl or keep) for job in jobs}
    with autocommit() as connection:
        names = [row.job for row in sql.JOBS.all(connection, {})]
    old: list[tuple[Statement, Statement, dict[str, Any]]] = [
        (sql.COUNT_OLD, sql.PURGE, {"job": name, "keep": keep_by_job.get(name, keep).total_seconds()}) for name in names
    ]
    old.append((job_cancellations.COUNT_OLD, job_cancellations.PURGE, {"keep": keep.total_seconds()}))
    budget, deleted, more = TimeBudget(seconds), 0, False
    for count_old, purge_old, parameters in old:
        if dry_run:
            deleted += count(count_old, parameters)
        else:
            purged = purge(purge_old, parameters, batch=batch, budget=budget)
            deleted, more = deleted + purged.deleted, more or purged.more
    return PurgeReport(deleted, more, dry_run)
