"""The scheduled maintenance jobs, with the settings of this installation and a limit below the job's time limit."""

from datetime import timedelta

from app.container import current_settings
from ops.maintenance import turns
from ops.maintenance.api_keys import purge_api_keys
from ops.maintenance.idempotency_keys import IdempotencyKeyPurgeReport, purge_idempotency_keys
from ops.maintenance.job_runs import purge_job_runs
from ops.maintenance.password_resets import purge_password_resets
from ops.maintenance.sessions import purge_sessions
from ops.maintenance.stored_bytes import RecountReport, recount
from ops.maintenance.tool_calls import purge_tool_calls
from ops.maintenance.turn_events import purge_turn_events
from ops.maintenance.turns import StaleTurnsReport
from ops.runs.batches import PurgeReport

RECOUNT_SECONDS = 3300
SECONDS = 540  # the time limit of these jobs is ten minutes
# 15 s more than the check within requests, so the scheduled job only closes turns that no request touched.
STALE_MARGIN_SECONDS = 15


def close_stale_turns(*, dry_run: bool = False) -> StaleTurnsReport:
    """Close turns without a recent heartbeat."""
    return turns.close_stale_turns(
        stale_seconds=current_settings().chat.stale_seconds + STALE_MARGIN_SECONDS, seconds=40, dry_run=dry_run
    )


def purge_ended_sessions(*, dry_run: bool = False) -> PurgeReport:
    """Delete sessions that ended more than SESSIONS_KEEP_DAYS ago."""
    return purge_sessions(
        keep=timedelta(days=current_settings().jobs.sessions_keep_days), seconds=SECONDS, dry_run=dry_run
    )


def purge_ended_api_keys(*, dry_run: bool = False) -> PurgeReport:
    """Delete API keys that ended more than API_KEYS_KEEP_DAYS ago."""
    return purge_api_keys(
        keep=timedelta(days=current_settings().jobs.api_keys_keep_days), seconds=SECONDS, dry_run=dry_run
    )


def purge_old_idempotency_keys(*, dry_run: bool = False) -> IdempotencyKeyPurgeReport:
    """Delete idempotency keys that are more than a day old."""
    return purge_idempotency_keys(seconds=SECONDS, dry_run=dry_run)


def purge_expired_password_resets(*, dry_run: bool = False) -> PurgeReport:
    """Delete expired tokens that reset a password."""
    return purge_password_resets(seconds=SECONDS, dry_run=dry_run)


def recount_stored_bytes(*, dry_run: bool = False) -> RecountReport:
    """Recount the bytes that each user stores, and correct what is counted."""
    return recount(seconds=RECOUNT_SECONDS, dry_run=dry_run)


def purge_old_job_runs(*, dry_run: bool = False) -> PurgeReport:
    """Delete job runs that are older than JOB_RUNS_KEEP_DAYS."""
    return purge_job_runs(keep=timedelta(days=current_settings().jobs.runs_keep_days), seconds=SECONDS, dry_run=dry_run)


def purge_old_turn_events(*, dry_run: bool = False) -> PurgeReport:
    """Delete stream events that are older than TURN_EVENTS_KEEP_HOURS."""
    return purge_turn_events(
        keep=timedelta(hours=current_settings().jobs.events_keep_hours), seconds=SECONDS, dry_run=dry_run
    )


def purge_old_tool_calls(*, dry_run: bool = False) -> PurgeReport:
    """Delete recorded calls of tools that are older than TOOL_CALLS_KEEP_DAYS."""
    return purge_tool_calls(keep_days=current_settings().tools.calls_keep_days, seconds=SECONDS, dry_run=dry_run)
