"""The job that records the backlog of the archival as metrics."""

from app.container import current_settings
from app.database import autocommit
from app.metrics.archive import record_archive_backlog
from ops.archive.backlog import count_backlog, read_cutoff
from ops.archive.reports import Backlog
from ops.runs.batches import TimeBudget

MEASURE_SECONDS = 240


def measure_backlog() -> Backlog | None:
    """Count the backlog and record it as metrics. Returns None while archival is switched off."""
    days = current_settings().archive.after_days
    if days == 0:
        record_archive_backlog(0, 0.0)
        return None
    with autocommit() as connection:
        backlog = count_backlog(connection, read_cutoff(connection, days), budget=TimeBudget(MEASURE_SECONDS))
    record_archive_backlog(backlog.conversations, backlog.oldest_seconds or 0.0)
    return backlog
