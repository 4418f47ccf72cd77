"""The job that extracts the texts of files: one file of each user in turn, one after the other."""

import time
from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from app.container import current_settings
from app.services import file_texts
from app.services.file_store import open_file_store
from app.services.file_texts import extract_claimed, extraction_limits
from app.storage.errors import StorageUnavailable

_FIRST = UUID(int=0)
# A store that fails so often in a row is away; a single failure may be due to one object.
_FAILURES = 3


@dataclass(frozen=True, slots=True)
class FileExtractionReport:
    """Numbers of files by outcome: texts that are `ready`, `failed` for good, and `retried` by a later run.

    `deleted` files were deleted during the extraction. `pending` still wait, counted up to 10,000.
    """

    ready: int = 0
    failed: int = 0
    retried: int = 0
    deleted: int = 0
    pending: int = 0


def extract_texts(*, seconds: float = 40) -> FileExtractionReport:
    """Extract the texts of pending files for about `seconds`; the next run continues. Does nothing if it is off.

    Raises `StorageUnavailable`; the files stay pending.
    """
    settings = current_settings().files
    if not settings.extract:
        return FileExtractionReport()
    deadline = time.monotonic() + seconds
    store, limits = open_file_store(current_settings()), extraction_limits(settings)
    outcomes = Counter[str]({"failed": file_texts.give_up()})
    after, failures = _FIRST, 0
    while time.monotonic() < deadline:
        claim = file_texts.claim_next(after)
        if claim is None:
            if after == _FIRST:
                break
            after = _FIRST
            continue
        after = claim.user_id
        outcome = extract_claimed(claim, store, limits)
        outcomes[outcome] += 1
        failures = failures + 1 if outcome == "unavailable" else 0
        if failures == _FAILURES:
            raise StorageUnavailable(f"The store of files did not answer {_FAILURES} times; the texts are tried again.")
    return FileExtractionReport(
        ready=outcomes["ready"],
        failed=outcomes["failed"],
        retried=outcomes["retried"] + outcomes["unavailable"],
        deleted=outcomes["deleted"],
        pending=file_texts.pending(),
    )
