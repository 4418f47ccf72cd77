"""Backups and restore drills, as the store knows them: read by a job, because a scrape must not wait for a store."""

from dataclasses import dataclass

from app.metrics.readings import Values, record_readings
from app.metrics.registry import reading

_TAKEN = reading(
    "backup_last_success_timestamp_seconds",
    "When the newest backup was taken with which nothing is known to be wrong; 0 if there is none.",
)
_BYTES = reading("backup_last_bytes", "Size of its dump.")
_DRILLED = reading("restore_drill_timestamp_seconds", "When the last restore drill began; 0 if there was none.")
_SUCCESS = reading("restore_drill_success", "1 if the last restore drill found nothing wrong, else 0.")
_RTO = reading("restore_drill_rto_seconds", "What the last drill took until the data were back and compared.")
_RPO = reading("restore_drill_rpo_seconds", "Age of the newest message that the last drill restored.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LastDrill:
    """`began` is Unix time; the spans are seconds, `rpo` None where there was no message."""

    began: float
    ok: bool
    rto: float
    rpo: float | None


def record_backups(taken: float, size: int, drill: LastDrill | None) -> None:
    """The newest good backup (`taken` in Unix time, 0 for none; `size` in bytes), and the last drill."""
    values: Values = {
        _TAKEN: {(): taken},
        _BYTES: {(): float(size)},
        _DRILLED: {(): drill.began if drill else 0.0},
        _SUCCESS: {(): float(drill.ok) if drill else 0.0},
        _RTO: {(): drill.rto} if drill else {},
        _RPO: {(): drill.rpo} if drill and drill.rpo is not None else {},
    }
    record_readings("backups", values)
