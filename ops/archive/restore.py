"""Restoring of bundled conversations: one, all of a user, or all that a run has bundled.

Each conversation is restored in its own transaction, so an interrupted restore keeps its progress. A restored
conversation counts as active, so the next run does not bundle it again. Chats have precedence, as for the archival.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import Connection, Row

from app.database import autocommit
from app.errors import ArchiveDamaged, Locked, NotFound
from app.repositories import archive_runs as runs
from app.repositories import archives as sql
from app.services import archives
from ops.archive.candidates import FIRST_KEY
from ops.archive.lock import archival_lock
from ops.archive.throttle import throttle_from_settings
from ops.runs.batches import TimeBudget
from ops.runs.progress import ProgressBar, progress

BATCH = 200  # keys read by one statement
JOB_SECONDS = 25 * 60  # the job's time limit is 30 minutes
MAX_IDS = 20  # of damaged conversations in a report


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRestoreReport:
    """Conversations that were restored from bundles."""

    restored: Annotated[int, "Conversations restored, or to restore with `dry_run`."]
    damaged: Annotated[int, "Conversations that stay in damaged bundles."] = 0
    damaged_ids: Annotated[tuple[UUID, ...], "Ids of the first 20 of them."] = ()
    busy: Annotated[int, "Conversations that were in use."] = 0
    restored_before: Annotated[int | None, "Of an undone run: conversations restored earlier; null otherwise."] = None
    deleted: Annotated[int | None, "Of an undone run: conversations that no longer exist; null otherwise."] = None
    more: Annotated[bool, "Whether the time was too short for all."] = False
    dry_run: Annotated[bool, "Whether nothing was changed."] = False


def restore_conversation(*, conversation_id: UUID, dry_run: bool = False) -> BundleRestoreReport:
    """Restore one conversation. Raises `NotFound`, and `ArchiveDamaged` if its bundle is damaged."""
    with autocommit() as connection:
        owner = sql.OWNER.one(connection, {"conversation_id": conversation_id})
        if owner is None:
            raise NotFound(f"There is no conversation {conversation_id}.")
        if dry_run:
            return BundleRestoreReport(restored=int(owner.storage == "bundled"), dry_run=True)
        return BundleRestoreReport(restored=int(archives.restore(connection, owner.user_id, conversation_id)))


def restore_user(*, user_id: UUID, seconds: float | None = None, dry_run: bool = False) -> BundleRestoreReport:
    """Restore all bundled conversations of a user; none for an unknown user."""
    with autocommit() as connection:
        total = _count(connection, owner_id=user_id)
        if dry_run:
            return BundleRestoreReport(restored=total, dry_run=True)
        counts = _Counts()
        _restore(connection, counts, total, seconds, owner_id=user_id)
    return counts.report()


def restore_run(*, run_id: UUID, seconds: float | None = None, dry_run: bool = False) -> BundleRestoreReport:
    """Restore the conversations that a run bundled and that are still bundled. Raises `NotFound`, `AlreadyRunning`."""
    with archival_lock(), autocommit() as connection:
        run: Any = runs.GET.one(connection, {"run_id": run_id})
        if run is None:
            raise NotFound(f"There is no archival run {run_id}.")
        remaining = _count(connection, run_id=run_id)
        counts = _Counts()
        if not dry_run:
            _restore(connection, counts, remaining, seconds, run_id=run_id)
        return replace(
            BundleRestoreReport(restored=remaining, dry_run=True) if dry_run else counts.report(),
            restored_before=run.restored,
            deleted=run.conversations - run.restored - remaining,
        )


def run_undo_job(*, run_id: str) -> BundleRestoreReport:
    """Run `restore_run` as the job archive.undo."""
    return restore_run(run_id=UUID(run_id), seconds=JOB_SECONDS)


def run_user_restore_job(*, user_id: str) -> BundleRestoreReport:
    """Run `restore_user` as the job archive.restore_user."""
    return restore_user(user_id=UUID(user_id), seconds=JOB_SECONDS)


@dataclass(slots=True)
class _Counts:
    restored: int = 0
    damaged: int = 0
    busy: int = 0
    more: bool = False
    damaged_ids: tuple[UUID, ...] = ()

    def report(self) -> BundleRestoreReport:
        """Return the counts as a report."""
        return BundleRestoreReport(**{name: getattr(self, name) for name in self.__dataclass_fields__})


def _restore(
    connection: Connection,
    counts: _Counts,
    total: int,
    seconds: float | None,
    *,
    run_id: UUID | None = None,
    owner_id: UUID | None = None,
) -> None:
    budget, throttle, batch = TimeBudget(seconds), throttle_from_settings(connection), _Batch()
    with progress("Restoring", total=total, unit="conversations") as bar:
        for bundled in _iter_bundled(connection, run_id, owner_id):
            if budget.expired:
                counts.more = True
                return
            _restore_one(connection, counts, bundled, bar, throttle.note)
            batch.messages += bundled.message_count
            if batch.messages >= throttle.messages:
                throttle.pause(batch.seconds, batch.messages)
                batch = _Batch()


@dataclass(slots=True)
class _Batch:
    """The work since the last pause."""

    messages: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


def _restore_one(connection: Connection, counts: _Counts, bundled: Row[Any], bar: ProgressBar, note: str) -> None:
    try:
        counts.restored += archives.restore(connection, bundled.user_id, bundled.conversation_id)
    except ArchiveDamaged:
        counts.damaged += 1
        counts.damaged_ids = (*counts.damaged_ids, bundled.conversation_id)[:MAX_IDS]
    except Locked:
        counts.busy += 1
    bar.advance(note=f"{counts.damaged} damaged" if counts.damaged else note)


def _iter_bundled(connection: Connection, run_id: UUID | None, owner_id: UUID | None) -> Iterator[Row[Any]]:
    after = FIRST_KEY
    while True:
        keys = {"run_id": run_id, "owner_id": owner_id, "after_user": after[0], "after_id": after[1]}
        page = sql.BUNDLED.all(connection, {**keys, "batch": BATCH})
        yield from page
        if len(page) < BATCH:
            return
        after = (page[-1].user_id, page[-1].conversation_id)


def _count(connection: Connection, *, run_id: UUID | None = None, owner_id: UUID | None = None) -> int:
    row = sql.COUNT_BUNDLED.one(connection, {"run_id": run_id, "owner_id": owner_id, "conversation_id": None})
    return int(row.conversations) if row is not None else 0
