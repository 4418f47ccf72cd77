"""Metrics of backups and restore drills. A job reads them, because a scrape must not wait for the storage."""

from dataclasses import dataclass
from datetime import timedelta

from app.metrics.external_gauges import Values, record_external_gauges
from app.metrics.registry import external_gauge

_TTL = timedelta(minutes=30)  # of values that a job reads every 5 minutes
BACKUP_LAST_SUCCESS_TIMESTAMP = external_gauge(
    "backup_last_success_timestamp_seconds",
    "Unix time of the newest backup without a known defect; 0 if there is none.",
)
BACKUP_LAST_BYTES = external_gauge("backup_last_bytes", "Size of the dump in the newest backup without a known defect.")
RESTORE_DRILL_TIMESTAMP = external_gauge(
    "restore_drill_timestamp_seconds", "Unix time at which the last restore drill began; 0 if there was none."
)
RESTORE_DRILL_SUCCESS = external_gauge("restore_drill_success", "1 if the last restore drill succeeded, else 0.")
RESTORE_DRILL_RTO = external_gauge(
    "restore_drill_rto_seconds", "Time that the last restore drill took to restore and compare the data."
)
RESTORE_DRILL_RPO = external_gauge(
    "restore_drill_rpo_seconds", "Age of the newest message that the last restore drill restored."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastDrill:
    """The last restore drill: `began` in Unix time, durations in seconds, `rpo` None if there was no message."""

    began: float
    ok: bool
    rto: float
    rpo: float | None


def record_backups(created: float, size: int, drill: LastDrill | None) -> None:
    """Record the newest good backup (`created` in Unix time, 0 for none; `size` in bytes) and the last drill."""
    values: Values = {
        BACKUP_LAST_SUCCESS_TIMESTAMP: {(): created},
        BACKUP_LAST_BYTES: {(): float(size)},
        RESTORE_DRILL_TIMESTAMP: {(): drill.began if drill else 0.0},
        RESTORE_DRILL_SUCCESS: {(): float(drill.ok) if drill else 0.0},
        RESTORE_DRILL_RTO: {(): drill.rto} if drill else {},
        RESTORE_DRILL_RPO: {(): drill.rpo} if drill and drill.rpo is not None else {},
    }
    record_external_gauges("backups", values, ttl=_TTL)
