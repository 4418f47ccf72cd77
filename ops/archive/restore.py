"""Out of the bundles again: one conversation, all of a user's, or what a run has bundled.

Each conversation is a transaction of its own; what was restored stays restored, whenever this ends. A restored
conversation counts as alive, so that the next run leaves it alone for as long as any other. Who chats meanwhile has
precedence, as beside the archival.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from app.errors import ArchiveDamaged, ConversationBusy, NotFound
from app.repositories import archive_runs as runs
from app.repositories import archives as sql
from app.services import archives
from ops.archive.alone import alone
from ops.archive.candidates import FIRST
from ops.archive.load import load_by_settings
from ops.care.batches import TimeBox, autocommit
from ops.progress import Bar, progress

BATCH = 200  # keys read by one statement
ASKED_SECONDS = 25 * 60  # for a job, which may take half an hour
SHOWN = 20  # ids of damaged ones in a report


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """`restored` conversations are live again, or would be (`dry_run`). `damaged` ones stay in their bundles, some of
    them `damaged_ids`; `busy` ones were in use for long. Of a run: `restored_before` had been, by their owners' writing
    or by an operator, and `deleted` are gone for good. `more`: time was up before all were looked at.
    """

    restored: int
    damaged: int = 0
    damaged_ids: tuple[UUID, ...] = ()
    busy: int = 0
    restored_before: int | None = None
    deleted: int | None = None
    more: bool = False
    dry_run: bool = False


def restore_conversation(*, conversation_id: UUID, dry_run: bool = False) -> Restored:
    """One conversation. Raises `NotFound`, and `ArchiveDamaged` where its bundle is."""
    with autocommit() as connection:
        owner = sql.OWNER.one(connection, {"conversation_id": conversation_id})
        if owner is None:
            raise NotFound(f"There is no conversation {conversation_id}.")
        if dry_run:
            return Restored(restored=int(owner.storage == "bundled"), dry_run=True)
        return Restored(restored=int(archives.restore(connection, owner.user_id, conversation_id)))


def restore_user(*, user_id: UUID, seconds: float | None = None, dry_run: bool = False) -> Restored:
    """All bundled conversations of a user; none of a user who is not there."""
    with autocommit() as connection:
        found = _count(connection, owner_id=user_id)
        if dry_run:
            return Restored(restored=found, dry_run=True)
        counts = _Counts()
        _restore(connection, counts, found, seconds, owner_id=user_id)
    return counts.report()


def restore_run(*, run_id: UUID, seconds: float | None = None, dry_run: bool = False) -> Restored:
    """What is left in bundles of what a run has bundled, and no more. Raises `NotFound`, `AnotherRunIsUnderWay`."""
    with alone(), autocommit() as connection:
        before: Any = runs.GET.one(connection, {"run_id": run_id})
        if before is None:
            raise NotFound(f"There is no archival run {run_id}.")
        left = _count(connection, run_id=run_id)
        counts = _Counts()
        if not dry_run:
            _restore(connection, counts, left, seconds, run_id=run_id)
        return replace(
            Restored(restored=left, dry_run=True) if dry_run else counts.report(),
            restored_before=before.restored,
            deleted=before.conversations - before.restored - left,
        )


def undo_asked(*, run_id: str) -> Restored:
    """What the job does that an operator asked for: `restore_run`."""
    return restore_run(run_id=UUID(run_id), seconds=ASKED_SECONDS)


def restore_account_asked(*, account_id: str) -> Restored:
    """What the job does that an operator asked for: `restore_user`."""
    return restore_user(user_id=UUID(account_id), seconds=ASKED_SECONDS)


@dataclass(slots=True)
class _Counts:
    restored: int = 0
    damaged: int = 0
    busy: int = 0
    more: bool = False
    damaged_ids: tuple[UUID, ...] = ()

    def report(self) -> Restored:
        """What came of it."""
        return Restored(**{name: getattr(self, name) for name in self.__dataclass_fields__})


def _restore(
    connection: Connection,
    counts: _Counts,
    total: int,
    seconds: float | None,
    *,
    run_id: UUID | None = None,
    owner_id: UUID | None = None,
) -> None:
    time_box, load, batch = TimeBox(seconds), load_by_settings(connection), _Batch()
    with progress("Restoring", total=total, unit="conversations") as bar:
        for bundled in _bundled(connection, run_id, owner_id):
            if time_box.over:
                counts.more = True
                return
            _one(connection, counts, bundled, bar, load.note)
            batch.messages += bundled.message_count
            if batch.messages >= load.messages:
                load.rest(batch.seconds, batch.messages)
                batch = _Batch()


@dataclass(slots=True)
class _Batch:
    """What was done since the last rest."""

    messages: int = 0
    begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun


def _one(connection: Connection, counts: _Counts, bundled: Row[Any], bar: Bar, note: str) -> None:
    try:
        counts.restored += archives.restore(connection, bundled.user_id, bundled.conversation_id)
    except ArchiveDamaged:
        counts.damaged += 1
        counts.damaged_ids = (*counts.damaged_ids, bundled.conversation_id)[:SHOWN]
    except ConversationBusy:
        counts.busy += 1
    bar.advance(note=f"{counts.damaged} damaged" if counts.damaged else note)


def _bundled(connection: Connection, run_id: UUID | None, owner_id: UUID | None) -> Iterator[Row[Any]]:
    after = FIRST
    while True:
        which = {"run_id": run_id, "owner_id": owner_id, "after_user": after[0], "after_id": after[1], "batch": BATCH}
        page = sql.BUNDLED.all(connection, which)
        yield from page
        if len(page) < BATCH:
            return
        after = (page[-1].user_id, page[-1].conversation_id)


def _count(connection: Connection, *, run_id: UUID | None = None, owner_id: UUID | None = None) -> int:
    row = sql.COUNT_BUNDLED.one(connection, {"run_id": run_id, "owner_id": owner_id, "conversation_id": None})
    return int(row.conversations) if row is not None else 0
