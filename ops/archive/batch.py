"""A few conversations into their bundles, in one short transaction that proves itself before it commits."""

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

LARGEST = 64 * 1024 * 1024  # bytes of a bundle, which is a million messages: whoever reads it holds all of it
DELETED_AT_ONCE = 10_000  # messages of each conversation

_log = logging.getLogger("parley.archives")


class NotProven(Exception):
    """What was written is not what was read, or what was deleted not what was written: nothing of it was committed."""


class RunClosed(Exception):
    """Somebody else has closed the run; nothing more is counted for it, nor done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """What became of a batch. `passed_over` were in use; `unfit` cannot be archived, and the log says why."""

    conversations: int = 0
    messages: int = 0
    plain_bytes: int = 0
    bundle_bytes: int = 0
    passed_over: int = 0
    unfit: int = 0


def archive(connection: Connection, run_id: UUID, batch: Batch, cutoff: datetime) -> Archived:
    """Archive those of the batch that are still idle, and move the run's cursor behind it; all of it or nothing.

    `connection` is in AUTOCOMMIT. Raises `NotProven`, `RunClosed`, and what the database does.
    """
    with atomically(connection):
        taken = runs.TAKE.all(connection, {**ids_of(batch.conversations), "cutoff": cutoff})
        found = [(row.user_id, row.id, row.message_count) for row in taken]
        made = [bundle for bundle, each in zip(copy(connection, found), found, strict=True) if _fit(bundle, each[2])]
        if made:
            _store(connection, run_id, made)
            _delete(connection, made, max(row.next_position for row in taken))
        archived = Archived(
            conversations=len(made),
            messages=sum(bundle.message_count for bundle in made),
            plain_bytes=sum(bundle.plain_bytes for bundle in made),
            bundle_bytes=sum(len(bundle.data) for bundle in made),
            passed_over=len(batch.conversations) - len(found),
            unfit=len(found) - len(made),
        )
        advance(connection, run_id, batch, archived)
    return archived


def advance(connection: Connection, run_id: UUID, batch: Batch, archived: Archived) -> None:
    """Count, and move the cursor. Raises `RunClosed`."""
    counts = {name: getattr(archived, name) for name in Archived.__dataclass_fields__}
    cursor = {"cursor_user": batch.end[0], "cursor_id": batch.end[1], "seen": batch.seen}
    if runs.ADVANCE.run(connection, {"run_id": run_id, **cursor, **counts}) != 1:
        raise RunClosed("the run has been closed by somebody else")


def _fit(bundle: Bundle, expected: int) -> bool:
    reason = None
    if bundle.message_count != expected:
        reason = f"it has {bundle.message_count} messages and says that it has {expected}"
    elif len(bundle.data) > LARGEST:
        reason = f"its bundle would have {len(bundle.data)} bytes, and {LARGEST} is the most"
    if reason is not None:
        log_unfit(bundle.conversation_id, reason)
    return reason is None


def log_unfit(conversation_id: UUID, reason: str) -> None:
    """Say why a conversation is left alone."""
    _log.warning("not archived: %s", reason, extra={"conversation_id": str(conversation_id)})


def _store(connection: Connection, run_id: UUID, made: Sequence[Bundle]) -> None:
    """Write the bundles, read them back, and see that they are the ones that were made."""
    sql.STORE.run(
        connection,
        {
            **_ids(made),
            "run_id": run_id,
            "counts": [bundle.message_count for bundle in made],
            "plain_bytes": [bundle.plain_bytes for bundle in made],
            "hashes": [bundle.sha256 for bundle in made],
            "bundles": [bundle.data for bundle in made],
        },
    )
    expected = {(bundle.user_id, bundle.conversation_id): bundle.sha256 for bundle in made}
    for row in sql.READ_BACK.all(connection, _ids(made)):
        stored = bundles.stored(row)
        try:
            bundles.verify(stored)
        except ArchiveDamaged as error:
            raise NotProven(f"a bundle was damaged on its way: {error.why}") from None
        if expected.pop((stored.user_id, stored.conversation_id), None) != stored.sha256:
            raise NotProven("a bundle is not the one that was written")
    if expected:
        raise NotProven(f"{len(expected)} bundles were not stored")


def _delete(connection: Connection, made: Sequence[Bundle], end: int) -> None:
    """Delete what was bundled, in steps, and see that it was neither more nor less."""
    expected = {(bundle.user_id, bundle.conversation_id): bundle.message_count for bundle in made}
    deleted: Counter[tuple[UUID, UUID]] = Counter()
    for up_to in range(DELETED_AT_ONCE, end + DELETED_AT_ONCE, DELETED_AT_ONCE):
        for row in sql.DELETE_MESSAGES.all(connection, {**_ids(made), "up_to": up_to}):
            deleted[row.user_id, row.conversation_id] += row.messages
    if any(deleted[key] != count for key, count in expected.items()):
        raise NotProven(f"{sum(expected.values())} messages were copied and {deleted.total()} deleted")
    if sql.CLOSE.run(connection, _ids(made)) != len(made):
        raise NotProven("a conversation has changed although its row is locked")


def _ids(made: Sequence[Bundle]) -> dict[str, list[UUID]]:
    return ids_of([(bundle.user_id, bundle.conversation_id, bundle.message_count) for bundle in made])
