"""API keys that have ended: kept for a while, because until then they say why they open nothing, then deleted."""

from datetime import timedelta

from app.repositories.care import COUNT_ENDED_API_KEYS, PURGE_API_KEYS
from ops.care.batches import Purged, TimeBox, count, purge


def purge_api_keys(
    *, keep: timedelta, batch: int = 1000, seconds: float | None = None, dry_run: bool = False
) -> Purged:
    """Delete API keys that expired or were revoked longer than `keep` ago. `seconds` bounds the run."""
    parameters = {"keep": keep.total_seconds()}
    if dry_run:
        return Purged(count(COUNT_ENDED_API_KEYS, parameters), dry_run=True)
    return purge(PURGE_API_KEYS, parameters, batch=batch, time_box=TimeBox(seconds))
