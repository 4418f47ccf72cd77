"""The jobs' own history: kept truthful, and kept short."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.repositories import job_runs as sql
from ops.care.batches import Purged, TimeBox, autocommit, count, purge
from ops.catalogue import JOBS
from ops.declarations import Job

_MARGIN = timedelta(minutes=1)  # beyond the longest run, before one that still counts as running is taken for lost


@dataclass(frozen=True, slots=True)
class JobTimes:
    """When a job last began and last succeeded; None if never."""

    job: str
    attempted: datetime | None
    succeeded: datetime | None


@dataclass(frozen=True, slots=True)
class LostClosed:
    """Runs that counted as running although their worker had gone."""

    closed: int
    dry_run: bool = False


def close_lost(*, jobs: Sequence[Job] = JOBS, dry_run: bool = False) -> LostClosed:
    """Close runs that have been running for longer than their job may. With `dry_run`, count what runs."""
    limits = [(job.longest + _MARGIN).total_seconds() for job in jobs]
    if dry_run:
        return LostClosed(count(sql.COUNT_RUNNING, {}), dry_run=True)
    with autocommit() as connection:
        parameters = {"jobs": [job.name for job in jobs], "limits": limits, "seconds": max(limits)}
        return LostClosed(len(sql.CLOSE_LOST.all(connection, parameters)))


def job_times(*, jobs: Sequence[Job] = JOBS) -> list[JobTimes]:
    """When each of the jobs last began and last succeeded."""
    with autocommit() as connection:
        rows = sql.LAST.all(connection, {"jobs": [job.name for job in jobs]})
    return [JobTimes(row.job, row.attempted, row.succeeded) for row in rows]


def remember_known(*, jobs: Sequence[Job] = JOBS) -> bool:
    """Write down since when those jobs are known here that nobody has heard of before; whether there were any."""
    with autocommit() as connection:
        return sql.REMEMBER_KNOWN.one(connection, {"jobs": [job.name for job in jobs]}) is not None


def purge_job_runs(
    *,
    keep: timedelta,
    jobs: Sequence[Job] = JOBS,
    batch: int = 1000,
    seconds: float | None = None,
    dry_run: bool = False,
) -> Purged:
    """Delete runs that began longer than `keep` ago, of a job in the catalogue its own `keep` if that is shorter.

    Runs of jobs that are no longer in the catalogue go as well. `seconds` bounds the run.
    """
    own = {job.name: min(keep, job.keep or keep) for job in jobs}
    with autocommit() as connection:
        names = [row.job for row in sql.JOBS.all(connection, {})]
    time_box, removed, more = TimeBox(seconds), 0, False
    for name in names:
        parameters = {"job": name, "keep": own.get(name, keep).total_seconds()}
        if dry_run:
            removed += count(sql.COUNT_OLD, parameters)
        else:
            purged = purge(sql.PURGE, parameters, batch=batch, time_box=time_box)
            removed, more = removed + purged.removed, more or purged.more
    return Purged(removed, more, dry_run)
