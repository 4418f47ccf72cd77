"""Sessions that have ended: kept for a while as evidence, then deleted."""

from datetime import timedelta

from app.repositories.care import COUNT_ENDED_SESSIONS, PURGE_SESSIONS
from ops.care.batches import Purged, TimeBox, count, purge


def purge_sessions(
    *, keep: timedelta, batch: int = 1000, seconds: float | None = None, dry_run: bool = False
) -> Purged:
    """Delete sessions that expired or were revoked longer than `keep` ago. `seconds` bounds the run."""
    parameters = {"keep": keep.total_seconds()}
    if dry_run:
        return Purged(count(COUNT_ENDED_SESSIONS, parameters), dry_run=True)
    return purge(PURGE_SESSIONS, parameters, batch=batch, time_box=TimeBox(seconds))
