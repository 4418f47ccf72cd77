"""Extraction of the texts of files: from the store, through the child process, to the passages of the database.

No connection is held while the file is copied and read. Passages are written in batches before the text is `ready`;
what an attempt has written that ended early is deleted by the next one.
"""

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, Literal
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from app.config.files import Files
from app.database import autocommit, violated_constraint
from app.enums import FileTextFailure, FileTextState
from app.extraction.errors import ExtractionFailed
from app.extraction.plain import prefix_bytes
from app.extraction.process import ExtractedText, ExtractionLimits, extract
from app.metrics.files import record_extraction
from app.repositories import file_texts as sql
from app.services.passages import Passage, passages
from app.services.search_documents import text_tsvector
from app.storage.base import Store
from app.storage.errors import FileNotFoundInStorage, StorageError

ATTEMPTS = 3
CLAIM_SECONDS = 300  # after which an attempt counts as ended with its process
_RETRY_SECONDS = 60  # times the attempt
_MISSING_SECONDS = 3_600  # the same, for contents that an operator may put back
# Another attempt may succeed: the machine was busy, or something else ended the process.
_RETRIED = frozenset({FileTextFailure.TIME, FileTextFailure.CRASHED, FileTextFailure.MISSING})
_BATCH = 100  # passages that one statement writes
_QUEUE_BATCH = 1000

Outcome = Literal["ready", "failed", "retried", "deleted", "unavailable"]

_log = logging.getLogger("parley.files")


@dataclass(frozen=True, slots=True)
class Claim:
    """A file whose text this process extracts."""

    user_id: UUID
    file_id: UUID
    attempt: int
    media_type: str
    object: str

    @property
    def key(self) -> dict[str, Any]:
        """The parameters of statements that need the claim."""
        return {"user_id": self.user_id, "file_id": self.file_id, "attempt": self.attempt}


def extraction_limits(files: Files) -> ExtractionLimits:
    """Return the limits of the settings."""
    return ExtractionLimits(files.extract_max_characters, files.extract_seconds, files.extract_max_memory_bytes)


def claim_next(after: UUID) -> Claim | None:
    """Claim a pending file of the next user after `after`; return None if there is none."""
    with autocommit() as connection:
        row = sql.CLAIM.one(connection, {"after": after, "attempts": ATTEMPTS, "seconds": CLAIM_SECONDS})
    return Claim(**row._mapping) if row else None


def give_up() -> int:
    """Mark files whose last attempt did not end as failed; return their number."""
    with autocommit() as connection:
        row = sql.GIVE_UP.one(connection, {"attempts": ATTEMPTS})
    return int(row.files) if row else 0


def queue_missing() -> int:
    """Queue the files that have no text although their type has one; return their number.

    Servers of an older release store such files while they run beside this one.
    """
    queued = 0
    after: dict[str, Any] = {"user_id": UUID(int=0), "file_id": UUID(int=0)}
    while True:
        try:
            with autocommit() as connection:
                row = sql.QUEUE_MISSING.one(connection, {**after, "batch": _QUEUE_BATCH})
        except IntegrityError:  # a file was deleted at the same time; the next run queues the others
            return queued
        if row is None:
            return queued
        queued += int(row.queued)
        if row.files < _QUEUE_BATCH:
            return queued
        after = {"user_id": row.user_id, "file_id": row.file_id}


def pending() -> int:
    """Return the number of files that wait for an extraction, counted up to 10,000."""
    with autocommit() as connection:
        row = sql.COUNT_PENDING.one(connection, {})
    return int(row.files) if row else 0


def extract_claimed(claim: Claim, store: Store, limits: ExtractionLimits) -> Outcome:
    """Extract and store the text of a claimed file. What fails is recorded, and raises nothing but database errors."""
    started = time.monotonic()
    failure: FileTextFailure | None = None
    try:
        outcome = _store(claim, _extracted(claim, store, limits))
    except ExtractionFailed as error:
        failure = error.reason
        outcome = _fail(claim, error.reason)
    except (StorageError, OSError) as error:  # also: no room for the copy, no process
        _log.warning("a text was not extracted, which is tried again: %s", error)
        outcome = _retry(claim, _RETRY_SECONDS, refund=True, outcome="unavailable")
    record_extraction(outcome, failure.value if failure else "", time.monotonic() - started)
    return outcome


def _extracted(claim: Claim, store: Store, limits: ExtractionLimits) -> ExtractedText:
    with tempfile.TemporaryFile() as file:
        try:
            _copy(claim, store, limits, file)
        except FileNotFoundInStorage:
            raise ExtractionFailed(FileTextFailure.MISSING) from None
        file.seek(0)
        return extract(file, claim.media_type, limits)


def _copy(claim: Claim, store: Store, limits: ExtractionLimits, file: IO[bytes]) -> None:
    """Copy a file, or of a text as much as is read."""
    is_plain = claim.media_type.startswith("text/") and claim.media_type != "text/html"
    left = prefix_bytes(limits.characters) if is_plain else None
    for chunk in store.read(claim.object):
        file.write(chunk if left is None else chunk[:left])
        if left is not None and (left := left - len(chunk)) <= 0:
            return


def _store(claim: Claim, text: ExtractedText) -> Outcome:
    with autocommit() as connection:
        sql.DELETE_PASSAGES.run(connection, claim.key)
    characters, ordinal = 0, 1
    rows = passages(text.pieces)
    while batch := list(islice(rows, _BATCH)):
        if not _write(claim, ordinal, batch):
            return "deleted"
        ordinal += len(batch)
        characters = batch[-1].start + len(batch[-1].content)
    return "ready" if _finish(claim, FileTextState.READY, None, characters, truncated=text.truncated) else "deleted"


def _write(claim: Claim, ordinal: int, batch: Sequence[Passage]) -> bool:
    """Write passages; return False if the file was deleted, or another process has the claim."""
    values = {
        **claim.key,
        "ordinals": list(range(ordinal, ordinal + len(batch))),
        "starts": [passage.start for passage in batch],
        "pages": [passage.page for passage in batch],
        "contents": [passage.content for passage in batch],
        "searches": [text_tsvector(passage.content) for passage in batch],
    }
    try:
        with autocommit() as connection:
            return sql.WRITE_PASSAGES.run(connection, values) > 0
    except IntegrityError as error:
        if violated_constraint(error) not in sql.FOREIGN_KEYS:
            raise
        return False


def _fail(claim: Claim, reason: FileTextFailure) -> Outcome:
    if reason in _RETRIED and claim.attempt < ATTEMPTS:
        seconds = _MISSING_SECONDS if reason is FileTextFailure.MISSING else _RETRY_SECONDS
        return _retry(claim, seconds, refund=False, outcome="retried")
    with autocommit() as connection:
        sql.DELETE_PASSAGES.run(connection, claim.key)
    return "failed" if _finish(claim, FileTextState.FAILED, reason, 0, truncated=False) else "deleted"


def _retry(claim: Claim, seconds: int, *, refund: bool, outcome: Outcome) -> Outcome:
    values = {**claim.key, "seconds": seconds * claim.attempt, "refund": int(refund)}
    with autocommit() as connection:
        return outcome if sql.RETRY.run(connection, values) else "deleted"


def _finish(
    claim: Claim, state: FileTextState, reason: FileTextFailure | None, characters: int, *, truncated: bool
) -> bool:
    values = {**claim.key, "state": state, "reason": reason, "characters": characters, "truncated": truncated}
    with autocommit() as connection:
        return sql.FINISH.run(connection, values) == 1
