"""Metrics of the extraction of texts from files."""

from typing import Final

from app.enums import FileTextFailure
from app.metrics.registry import KnownChildren, counter, histogram

# Outcomes without a reason: the text is ready; the store was away; the file was deleted during it.
_PLAIN: Final = ("ready", "unavailable", "deleted")
# Outcomes with the reason of the failure: for good; tried again later; of a file that was deleted during it.
_FAILED: Final = ("failed", "retried", "deleted")
_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60)

FILE_EXTRACTIONS = counter(
    "file_extractions_total", "Extractions of the text of a file, by outcome and reason.", ("outcome", "reason")
)
FILE_EXTRACTION_DURATION = histogram(
    "file_extraction_duration_seconds", "Duration of the extraction of the text of a file.", buckets=_BUCKETS
)

_extractions = KnownChildren(
    FILE_EXTRACTIONS,
    [(outcome, "") for outcome in _PLAIN]
    + [(outcome, reason.value) for outcome in _FAILED for reason in FileTextFailure],
)


def record_extraction(outcome: str, reason: str, seconds: float) -> None:
    """Record an extraction. `reason` is a value of `FileTextFailure`, empty if nothing failed."""
    _extractions[outcome, reason].inc()
    FILE_EXTRACTION_DURATION.metric.observe(seconds)
