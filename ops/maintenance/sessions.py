"""Purge of ended sessions. They are kept for a while as evidence."""

from datetime import timedelta

from app.repositories.maintenance import COUNT_ENDED_SESSIONS, PURGE_SESSIONS
from ops.runs.batches import PurgeReport, TimeBudget, count, purge


def purge_sessions(
    *, keep: timedelta, batch: int = 1000, seconds: float | None = None, dry_run: bool = False
) -> PurgeReport:
    """Delete sessions that expired or were revoked longer than `keep` ago. `seconds` limits the run."""
    parameters = {"keep": keep.total_seconds()}
    if dry_run:
        return PurgeReport(count(COUNT_ENDED_SESSIONS, parameters), dry_run=True)
    return purge(PURGE_SESSIONS, parameters, batch=batch, budget=TimeBudget(seconds))
