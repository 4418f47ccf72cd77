"""Metrics of the copies of files at providers."""

from typing import Final, Literal

from app.metrics.registry import KnownChildren, counter

# uploaded; retried: it failed, and is tried again soon; failed: it is tried again after a day, or never.
UploadOutcome = Literal["uploaded", "retried", "failed"]
RemovalOutcome = Literal["removed", "retried"]

PROVIDER_FILE_UPLOADS = counter(
    "provider_file_uploads_total",
    "Uploads of files to providers by outcome: uploaded, retried soon, or failed.",
    ("outcome",),
)
PROVIDER_FILE_REMOVALS = counter(
    "provider_file_removals_total", "Deletions of files at providers by outcome: removed, or retried.", ("outcome",)
)

_uploads: Final = KnownChildren(PROVIDER_FILE_UPLOADS, [("uploaded",), ("retried",), ("failed",)])
_removals: Final = KnownChildren(PROVIDER_FILE_REMOVALS, [("removed",), ("retried",)])


def record_provider_upload(outcome: UploadOutcome) -> None:
    """Count an attempt to upload a file to a provider."""
    _uploads[(outcome,)].inc()


def record_provider_removal(outcome: RemovalOutcome) -> None:
    """Count an attempt to delete a file at a provider."""
    _removals[(outcome,)].inc()
