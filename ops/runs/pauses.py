"""Paused jobs: the messages of beat are skipped, with the reason, until the job is resumed.

A run on request is not skipped: an operator can try a paused job.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from app.database import autocommit
from app.errors import Conflict, NotFound
from app.repositories import paused_jobs as sql
from ops.catalogue.jobs import BEAT_TICK, JOBS
from ops.runs.actors import Actor
from ops.runs.reasons import checked_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class PausedJob:
    """A job that is paused."""

    job: Annotated[str, "Name of the job."]
    reason: Annotated[str, "Why it is paused."]
    by: Annotated[str, "Who paused it."]
    since: Annotated[datetime, "When it was paused."]


def paused_jobs() -> dict[str, PausedJob]:
    """Return the paused jobs by name."""
    with autocommit() as connection:
        return {row.job: PausedJob(**row._mapping) for row in sql.ALL.all(connection, {})}


def pause_job(*, job: str, reason: str, by: Actor) -> PausedJob:
    """Pause a job with a schedule; repeating it replaces the reason.

    Raises `NotFound` for another name, `Conflict` for the job that shows that beat works, and `InvalidInput` for a
    reason out of bounds.
    """
    if job not in {declared.name for declared in JOBS if declared.schedule}:
        raise NotFound(f"No scheduled job has the name {job}; `flask ops jobs list` shows all jobs.")
    if job == BEAT_TICK.name:
        raise Conflict(f"{job} cannot be paused: its runs show that beat, broker and a worker work.")
    values = {"job": job, "reason": checked_reason(reason), "by": by.name[:255]}
    with autocommit() as connection:
        row = sql.PAUSE.one(connection, {**values, "user_id": by.user_id})
    assert row is not None  # noqa: S101  # an upsert without a condition returns its row
    return PausedJob(**values, since=row.since)


def resume_job(*, job: str) -> PausedJob:
    """Resume a job and return how it was paused. Raises `NotFound` if it is not paused."""
    with autocommit() as connection:
        row = sql.RESUME.one(connection, {"job": job})
    if row is None:
        raise NotFound(f"{job} is not paused; `flask ops jobs list` shows all jobs.")
    return PausedJob(job=job, **row._mapping)
