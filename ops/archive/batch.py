"""Bundling of a batch of conversations, in one short transaction that is verified before the commit."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from app.errors import ArchiveDamaged
from app.repositories import archive_runs as runs
from app.repositories import archives as sql
from app.repositories.atomic import atomically
from app.services import bundles
from app.services.archives import copy, ids_of
from app.services.bundles import Bundle
from ops.archive.candidates import Batch

MAX_BUNDLE_BYTES = 64 * 1024 * 1024  # about a million messages; a reader holds the whole bundle in memory
DELETE_STEP = 10_000  # positions of each conversation per statement

_log = logging.getLogger("parley.archives")


class BundleCheckFailed(Exception):
    """The stored bundles or the deleted messages do not match what was read. Nothing was committed."""


class RunClosed(Exception):
    """Another process has closed the run, so this one stops. Nothing was committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """Counts of a bundled batch. `skipped` conversations were in use; `rejected` ones cannot be bundled (see log)."""

    conversations: int = 0
    messages: int = 0
    plain_bytes: int = 0
    bundle_bytes: int = 0
    skipped: int = 0
    rejected: int = 0


def bundle_batch(connection: Connection, run_id: UUID, batch: Batch, cutoff: datetime) -> BatchResult:
    """Bundle the conversations of the batch that are still idle, and advance the run's cursor, in one transaction.

    `connection` is in AUTOCOMMIT. Raises `BundleCheckFailed`, `RunClosed` and `DBAPIError`.
    """
    with atomically(connection):
        rows = runs.LOCK_IDLE.all(connection, {**ids_of(batch.conversations), "cutoff": cutoff})
        idle = [(row.user_id, row.id, row.message_count) for row in rows]
        copies = zip(copy(connection, idle), idle, strict=True)
        new_bundles = [bundle for bundle, (_, _, count) in copies if _accepts(bundle, count)]
        if new_bundles:
            _store(connection, run_id, new_bundles)
            _delete(connection, new_bundles, max(row.next_position for row in rows))
        result = BatchResult(
            conversations=len(new_bundles),
            messages=sum(bundle.message_count for bundle in new_bundles),
            plain_bytes=sum(bundle.plain_bytes for bundle in new_bundles),
            bundle_bytes=sum(len(bundle.data) for bundle in new_bundles),
            skipped=len(batch.conversations) - len(idle),
            rejected=len(idle) - len(new_bundles),
        )
        advance_cursor(connection, run_id, batch, result)
    return result


def advance_cursor(connection: Connection, run_id: UUID, batch: Batch, result: BatchResult) -> None:
    """Add the counts to the run and move its cursor to the end of the batch. Raises `RunClosed`."""
    counts = {name: getattr(result, name) for name in BatchResult.__dataclass_fields__}
    cursor = {"cursor_user": batch.end[0], "cursor_id": batch.end[1], "examined": batch.examined}
    if runs.ADVANCE.run(connection, {"run_id": run_id, **cursor, **counts}) != 1:
        raise RunClosed("another process has closed the run")


def _accepts(bundle: Bundle, expected: int) -> bool:
    """Return whether the bundle may replace its `expected` messages; the reason against it is logged."""
    reason = None
    if bundle.message_count != expected:
        reason = f"it has {bundle.message_count} messages, but its row counts {expected}"
    elif len(bundle.data) > MAX_BUNDLE_BYTES:
        reason = f"its bundle has {len(bundle.data)} bytes; the limit is {MAX_BUNDLE_BYTES}"
    if reason is not None:
        log_rejection(bundle.conversation_id, reason)
    return reason is None


def log_rejection(conversation_id: UUID, reason: str) -> None:
    """Log why a conversation was not bundled."""
    _log.warning("conversation not bundled: %s", reason, extra={"conversation_id": str(conversation_id)})


def _store(connection: Connection, run_id: UUID, new_bundles: Sequence[Bundle]) -> None:
    """Store the bundles, read them back and compare them. Raises `BundleCheckFailed`."""
    sql.STORE.run(
        connection,
        {
            **_ids(new_bundles),
            "run_id": run_id,
            "counts": [bundle.message_count for bundle in new_bundles],
            "plain_bytes": [bundle.plain_bytes for bundle in new_bundles],
            "hashes": [bundle.sha256 for bundle in new_bundles],
            "bundles": [bundle.data for bundle in new_bundles],
        },
    )
    expected = {(bundle.user_id, bundle.conversation_id): bundle.sha256 for bundle in new_bundles}
    for row in sql.READ_BACK.all(connection, _ids(new_bundles)):
        stored = bundles.from_row(row)
        try:
            bundles.verify(stored)
        except ArchiveDamaged as error:
            raise BundleCheckFailed(f"a stored bundle is damaged: {error.reason}") from None
        if expected.pop((stored.user_id, stored.conversation_id), None) != stored.sha256:
            raise BundleCheckFailed("a stored bundle differs from the one that was written")
    if expected:
        raise BundleCheckFailed(f"{len(expected)} bundles were not stored")


def _delete(connection: Connection, new_bundles: Sequence[Bundle], end: int) -> None:
    """Delete the bundled messages in steps and compare their number. Raises `BundleCheckFailed`."""
    expected = {(bundle.user_id, bundle.conversation_id): bundle.message_count for bundle in new_bundles}
    deleted: Counter[tuple[UUID, UUID]] = Counter()
    for up_to in range(DELETE_STEP, end + DELETE_STEP, DELETE_STEP):
        for row in sql.DELETE_MESSAGES.all(connection, {**_ids(new_bundles), "up_to": up_to}):
            deleted[row.user_id, row.conversation_id] += row.messages
    if any(deleted[key] != count for key, count in expected.items()):
        raise BundleCheckFailed(f"{sum(expected.values())} messages were copied, but {deleted.total()} deleted")
    if sql.CLOSE.run(connection, _ids(new_bundles)) != len(new_bundles):
        raise BundleCheckFailed("a conversation changed although its row is locked")


def _ids(new_bundles: Sequence[Bundle]) -> dict[str, list[UUID]]:
    return ids_of([(bundle.user_id, bundle.conversation_id, bundle.message_count) for bundle in new_bundles])
