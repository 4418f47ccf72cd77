"""Metrics of archival: its backlog and its bundles, read by a job from the database."""

from datetime import timedelta

from app.metrics.external_gauges import record_external_gauges
from app.metrics.registry import external_gauge

_BACKLOG_TTL = timedelta(hours=4)  # of values that a job reads every hour
_BUNDLES_TTL = timedelta(hours=50)  # every day
ARCHIVE_BACKLOG_CONVERSATIONS = external_gauge(
    "archive_backlog_conversations", "Conversations that are idle long enough to be archived."
)
ARCHIVE_OLDEST_ELIGIBLE_AGE = external_gauge(
    "archive_oldest_eligible_age_seconds",
    "Time since the last activity of the conversation that has waited longest to be archived; 0 if none waits.",
)
ARCHIVE_BUNDLES = external_gauge("archive_bundles", "Archived conversations whose messages are in a bundle.")
ARCHIVE_DAMAGED_BUNDLES = external_gauge(
    "archive_damaged_bundles", "Bundles that the last verification found damaged or missing."
)


def record_archive_backlog(conversations: int, oldest_seconds: float) -> None:
    """Record how many conversations are due for archival, and the time since the oldest one's last activity."""
    record_external_gauges(
        "archive",
        {ARCHIVE_BACKLOG_CONVERSATIONS: {(): conversations}, ARCHIVE_OLDEST_ELIGIBLE_AGE: {(): oldest_seconds}},
        ttl=_BACKLOG_TTL,
    )


def record_archive_bundles(bundles: int, damaged: int) -> None:
    """Record how many bundles there are, and how many of them are damaged or missing."""
    record_external_gauges(
        "archive_bundles", {ARCHIVE_BUNDLES: {(): bundles}, ARCHIVE_DAMAGED_BUNDLES: {(): damaged}}, ttl=_BUNDLES_TTL
    )
