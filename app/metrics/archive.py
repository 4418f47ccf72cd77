"""The archival: how much of it is due. Read by a job from the database."""

from app.metrics.readings import record_readings
from app.metrics.registry import reading

_BACKLOG = reading("archive_backlog_conversations", "Conversations that have been idle for long enough to be archived.")
_OLDEST = reading(
    "archive_oldest_eligible_age_seconds",
    "Time since the last sign of life of the conversation that has waited longest to be archived; 0 if none waits.",
)
_BUNDLED = reading("archive_bundles", "Archived conversations that are in a bundle.")
_DAMAGED = reading("archive_damaged_bundles", "Bundles that the last verification found damaged, or missing.")


def record_archive_backlog(conversations: int, oldest_seconds: float) -> None:
    """So many conversations are due, and the oldest has not been heard of for so long."""
    record_readings("archive", {_BACKLOG: {(): conversations}, _OLDEST: {(): oldest_seconds}})


def record_archive_bundles(bundles: int, damaged: int) -> None:
    """So many bundles there are, and so many were found damaged."""
    record_readings("archive_bundles", {_BUNDLED: {(): bundles}, _DAMAGED: {(): damaged}})
