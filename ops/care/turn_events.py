"""What streams said: of use while a reader may come back for it, afterwards told from the messages."""

from datetime import timedelta

from app.repositories.care import COUNT_OLD_EVENTS, PURGE_EVENTS
from ops.care.batches import Purged, TimeBox, count, purge


def purge_turn_events(
    *, keep: timedelta, batch: int = 1000, seconds: float | None = None, dry_run: bool = False
) -> Purged:
    """Delete events that were stored longer than `keep` ago. `seconds` bounds the run."""
    parameters = {"keep": keep.total_seconds()}
    if dry_run:
        return Purged(count(COUNT_OLD_EVENTS, parameters), dry_run=True)
    return purge(PURGE_EVENTS, parameters, batch=batch, time_box=TimeBox(seconds))
