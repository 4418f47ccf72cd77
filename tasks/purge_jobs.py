"""Jobs that delete what has had its time."""

from datetime import timedelta

from app.services.container import services
from ops import catalogue
from ops.care.batches import Purged
from ops.care.idempotency_keys import KeysFreed, free_keys
from ops.care.job_runs import purge_job_runs
from ops.care.sessions import purge_sessions
from ops.care.turn_events import purge_turn_events
from tasks.base import job

SECONDS = 540  # for batches; a run may take ten minutes


@job(catalogue.PURGE_SESSIONS)
def purge_ended_sessions() -> Purged:
    return purge_sessions(keep=timedelta(days=services().settings.jobs.sessions_keep_days), seconds=SECONDS)


@job(catalogue.PURGE_IDEMPOTENCY_KEYS)
def free_old_keys() -> KeysFreed:
    return free_keys(seconds=SECONDS)


@job(catalogue.PURGE_JOB_RUNS)
def purge_old_job_runs() -> Purged:
    return purge_job_runs(keep=timedelta(days=services().settings.jobs.runs_keep_days), seconds=SECONDS)


@job(catalogue.PURGE_TURN_EVENTS)
def purge_old_turn_events() -> Purged:
    return purge_turn_events(keep=timedelta(hours=services().settings.jobs.events_keep_hours), seconds=SECONDS)
