"""Daily, weekly and monthly jobs that missed their slot: enqueued by the next tick of the beat.

A beat reads the last slots from its file. A beat on a new home, or a broker that lost a message, would otherwise skip a
job until its next slot: a day, but for a monthly job a month. The history of the runs has the missing slots.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.container import current_settings
from app.database import autocommit
from app.jobs import MAINTENANCE, Message, job_queue
from app.repositories import job_runs as sql
from ops.catalogue.declarations import Job
from ops.catalogue.jobs import JOBS
from ops.catalogue.schedules import DAY
from ops.maintenance.job_runs import JobTimes
from ops.runs.pauses import paused_jobs

GRACE = timedelta(minutes=5)  # after the end of a run that began in its slot and took its whole time limit

_enqueued: dict[str, datetime] = {}  # the slot by job, of this process; a second message would be skipped anyway


def enqueue_missed(times: Sequence[JobTimes], *, now: datetime, jobs: Sequence[Job] = JOBS) -> list[str]:
    """Enqueue each job with a slot a day or less often that has not run since its last slot; return their names.

    A job is due from its first slot after a worker has loaded it. A paused job is not enqueued. `times` are those of
    the last runs.
    """
    attempted = {entry.job: entry.attempted for entry in times}
    known_since = _known_since()
    paused = paused_jobs()
    keep = timedelta(days=current_settings().jobs.runs_keep_days)
    missed = []
    for job in jobs:
        if job.name in paused:
            continue
        slot = _missed_slot(job, attempted.get(job.name) or known_since.get(job.name), now)
        # A run before the history's beginning is unknown.
        if slot is None or now - slot >= min(keep, job.history_ttl or keep) or _enqueued.get(job.name) == slot:
            continue
        job_queue().put(Message(job.name, {}, queue=MAINTENANCE, slot=slot))
        _enqueued[job.name] = slot
        missed.append(job.name)
    return missed


def _missed_slot(job: Job, since: datetime | None, now: datetime) -> datetime | None:
    """Return the last slot if the job has not run after it, although it could have ended by now."""
    if since is None or job.schedule is None or job.schedule.interval < DAY:
        return None
    slot = job.schedule.slot(now)
    return slot if since < slot and slot + job.time_limit + GRACE < now else None


def _known_since() -> dict[str, datetime]:
    with autocommit() as connection:
        row = sql.KNOWN_SINCE.one(connection, {})
    known = row.value if row is not None and isinstance(row.value, dict) else {}
    return {job: datetime.fromisoformat(moment) for job, moment in known.items()}
