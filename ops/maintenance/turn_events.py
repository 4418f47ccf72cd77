"""Purge of stored stream events. Afterwards, streams are replayed from the messages."""

from datetime import timedelta

from app.repositories.maintenance import COUNT_OLD_EVENTS, PURGE_EVENTS
from ops.runs.batches import PurgeReport, TimeBudget, count, purge


def purge_turn_events(
    *, keep: timedelta, batch: int = 1000, seconds: float | None = None, dry_run: bool = False
) -> PurgeReport:
    """Delete events that were stored longer than `keep` ago. `seconds` limits the run."""
    parameters = {"keep": keep.total_seconds()}
    if dry_run:
        return PurgeReport(count(COUNT_OLD_EVENTS, parameters), dry_run=True)
    return purge(PURGE_EVENTS, parameters, batch=batch, budget=TimeBudget(seconds))
