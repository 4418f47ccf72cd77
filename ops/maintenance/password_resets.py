"""Purge of expired tokens that reset a password."""

from app.repositories.maintenance import COUNT_EXPIRED_RESETS, PURGE_RESETS
from ops.runs.batches import PurgeReport, TimeBudget, count, purge


def purge_password_resets(*, batch: int = 1000, seconds: float | None = None, dry_run: bool = False) -> PurgeReport:
    """Delete expired tokens. `seconds` limits the run."""
    if dry_run:
        return PurgeReport(count(COUNT_EXPIRED_RESETS, {}), dry_run=True)
    return purge(PURGE_RESETS, {}, batch=batch, budget=TimeBudget(seconds))
