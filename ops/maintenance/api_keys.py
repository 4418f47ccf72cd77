"""Purge of ended API keys. They are kept for a while, so that a request with one gets the reason of the rejection."""

from datetime import timedelta

from app.repositories.maintenance import COUNT_ENDED_API_KEYS, PURGE_API_KEYS
from ops.runs.batches import PurgeReport, TimeBudget, count, purge


def purge_api_keys(
    *, keep: timedelta, batch: int = 1000, seconds: float | None = None, dry_run: bool = False
) -> PurgeReport:
    """Delete API keys that expired or were revoked longer than `keep` ago. `seconds` limits the run."""
    parameters = {"keep": keep.total_seconds()}
    if dry_run:
        return PurgeReport(count(COUNT_ENDED_API_KEYS, parameters), dry_run=True)
    return purge(PURGE_API_KEYS, parameters, batch=batch, budget=TimeBudget(seconds))
