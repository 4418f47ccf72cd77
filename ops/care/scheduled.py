"""Upkeep as the clock asks for it: with this installation's settings, and an end before the job's own."""

from datetime import timedelta

from app.services.container import services
from ops.care.api_keys import purge_api_keys
from ops.care.batches import Purged
from ops.care.idempotency_keys import KeysFreed, free_keys
from ops.care.job_runs import purge_job_runs
from ops.care.sessions import purge_sessions
from ops.care.turn_events import purge_turn_events
from ops.care.turns import StaleTurnsClosed, close_stale

SECONDS = 540  # for batches; a run may take ten minutes
# Beyond what the next caller waits for: whoever is there comes first, and the clock closes what nobody asks about.
STALE_MARGIN_SECONDS = 15


def close_stale_turns() -> StaleTurnsClosed:
    """Close turns whose worker has gone silent."""
    return close_stale(stale_seconds=services().settings.chat.stale_seconds + STALE_MARGIN_SECONDS, seconds=40)


def purge_ended_sessions() -> Purged:
    """Delete sessions that ended more than SESSIONS_KEEP_DAYS ago."""
    return purge_sessions(keep=timedelta(days=services().settings.jobs.sessions_keep_days), seconds=SECONDS)


def purge_ended_api_keys() -> Purged:
    """Delete API keys that ended more than API_KEYS_KEEP_DAYS ago."""
    return purge_api_keys(keep=timedelta(days=services().settings.jobs.api_keys_keep_days), seconds=SECONDS)


def free_old_keys() -> KeysFreed:
    """Free idempotency keys that are more than a day old."""
    return free_keys(seconds=SECONDS)


def purge_old_job_runs() -> Purged:
    """Delete the history of jobs that is older than JOB_RUNS_KEEP_DAYS."""
    return purge_job_runs(keep=timedelta(days=services().settings.jobs.runs_keep_days), seconds=SECONDS)


def purge_old_turn_events() -> Purged:
    """Delete what streams said more than TURN_EVENTS_KEEP_HOURS ago."""
    return purge_turn_events(keep=timedelta(hours=services().settings.jobs.events_keep_hours), seconds=SECONDS)
