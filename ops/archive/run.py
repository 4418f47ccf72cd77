"""A run of the archival: through all conversations by their keys, a short transaction at a time.

Killed at any point it loses nothing: each transaction archives its conversations whole and moves the cursor, or does
neither. `resume` goes on behind the cursor.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.database import said
from app.errors import InvalidInput, NotFound
from app.models import ArchiveRunState
from app.models.columns import new_id
from app.repositories import archive_runs as runs
from app.repositories.atomic import atomically
from app.services.container import services
from app.services.search import index_conversations
from ops.archive.alone import alone
from ops.archive.backlog import cutoff_of
from ops.archive.batch import Archived, NotProven, advance, archive, log_unfit
from ops.archive.candidates import FIRST, Batch, batches
from ops.archive.load import Load, load_by_settings
from ops.archive.reports import ArchiveRunReport
from ops.care.batches import TimeBox, autocommit
from ops.errors import AnotherRunIsUnderWay
from ops.progress import Bar, progress

SCHEDULED_SECONDS = 540.0
MOST_FAILURES = 20  # conversations that a run may fail at; beyond that something else is wrong
_OF_ONE = (NotProven, DBAPIError)  # what may be the matter with a single conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """When to stop: after about so many messages, or seconds. None is no bound."""

    messages: int | None = None
    seconds: float | None = None


def run(
    *,
    resume: UUID | None = None,
    bounds: Bounds = Bounds(),
    total: int | None = None,
    make_load: Callable[[Connection], Load] = load_by_settings,
) -> ArchiveRunReport:
    """Archive what has been idle for ARCHIVE_AFTER_DAYS, or go on with an unfinished run and its own cutoff.

    `total` is how many conversations to expect, for whoever watches. Raises `AnotherRunIsUnderWay`; `NotFound` and
    `InvalidInput` for what cannot be resumed; what stops a run is kept in it as its reason, and raised.
    """
    with alone() as watching, autocommit() as connection:
        runs.CLOSE_GONE.all(watching, {})
        row = _resumed(connection, resume) if resume else _begun(connection)
        load = make_load(watching)
        try:
            with progress("Archiving", total=total, unit="conversations") as bar:
                state, reason = _Run(connection, row, load, bar, bounds).go()
        except BaseException as error:
            with suppress(DBAPIError):  # then the next run finds that this one has gone
                _end(row.id, *_ending(error))
            raise
        return ArchiveRunReport.of(_end(row.id, state, reason))


def run_scheduled(*, make_load: Callable[[Connection], Load] = load_by_settings) -> ArchiveRunReport | None:
    """As the clock asks for it, every hour: go on with the last run if it did not complete; one run begins each day.

    None: it is switched off, or there was nothing left to do today. Where another archival is under way, its report.
    """
    if services().settings.archive.after_days == 0:
        return None
    box, done = TimeBox(SCHEDULED_SECONDS), None
    try:
        last = _latest()
        if last is not None and last.state != ArchiveRunState.COMPLETED:
            done = run(resume=last.id, bounds=Bounds(seconds=box.left), make_load=make_load)
            if done.state != ArchiveRunState.COMPLETED:
                return done
        if last is None or last.started_at.astimezone(UTC).date() != datetime.now(UTC).date():
            return run(bounds=Bounds(seconds=box.left), make_load=make_load)
    except AnotherRunIsUnderWay:
        return _latest()
    return done


def _latest() -> ArchiveRunReport | None:
    with autocommit() as connection:
        row = runs.LATEST.one(connection, {"limit": 1})
    return ArchiveRunReport.of(row) if row is not None else None


@dataclass(slots=True)
class _Run:
    connection: Connection
    row: Any
    load: Load
    bar: Bar
    bounds: Bounds
    time_box: TimeBox = field(init=False)
    messages: int = 0
    failures: int = 0

    def __post_init__(self) -> None:
        self.time_box = TimeBox(self.bounds.seconds)

    def go(self) -> tuple[ArchiveRunState, str | None]:
        """Through all there is. How it ended, and why it did not complete."""
        after = (self.row.cursor_user_id, self.row.cursor_conversation_id) if self.row.cursor_user_id else FIRST
        for batch in batches(self.connection, self.row.cutoff, after, lambda: self.load.messages):
            if self.time_box.over:
                return ArchiveRunState.STOPPED, "its time was up"
            if self.bounds.messages is not None and self.messages >= self.bounds.messages:
                return ArchiveRunState.STOPPED, f"it had archived the {self.bounds.messages} messages it may"
            self._deal_with(batch)
        return ArchiveRunState.COMPLETED, None

    def _deal_with(self, batch: Batch) -> None:
        if not batch.conversations:
            with atomically(self.connection):
                advance(self.connection, self.row.id, batch, Archived())
            return
        begun = time.monotonic()
        if batch.unsearchable:  # afterwards there are no messages to write a document from
            index_conversations(sorted(batch.unsearchable))
        try:
            self._archive(batch)
        except _OF_ONE as error:
            if getattr(error, "connection_invalidated", False):
                raise
            self._one_by_one(batch)
        waited = self.load.rest(time.monotonic() - begun)
        if waited:
            paused = {"run_id": self.row.id, "seconds": waited, "reason": self.load.waited_for}
            runs.PAUSED.run(self.connection, paused)

    def _archive(self, batch: Batch) -> None:
        archived = archive(self.connection, self.row.id, batch, self.row.cutoff)
        self.messages += archived.messages
        self.bar.advance(archived.conversations, note=self.load.note)

    def _one_by_one(self, batch: Batch) -> None:
        """Find the conversation that a batch failed at, and leave it alone. Raises its error after too many of them."""
        for single in batch.singly():
            try:
                self._archive(single)
            except _OF_ONE as error:
                self.failures += 1
                if getattr(error, "connection_invalidated", False) or self.failures > MOST_FAILURES:
                    raise
                log_unfit(single.conversations[0][1], told(error))
                with atomically(self.connection):
                    advance(self.connection, self.row.id, single, Archived(unfit=1))


def told(error: BaseException) -> str:
    """What went wrong, in a line."""
    return f"{type(error).__name__}: {said(error) if isinstance(error, DBAPIError) else error}"


def _begun(connection: Connection) -> Any:
    cutoff = cutoff_of(connection, services().settings.archive.after_days)
    return runs.BEGIN.one(connection, {"run_id": new_id(), "cutoff": cutoff})


def _resumed(connection: Connection, run_id: UUID) -> Any:
    row = runs.RESUME.one(connection, {"run_id": run_id})
    if row is None:
        if runs.GET.one(connection, {"run_id": run_id}) is None:
            raise NotFound(f"There is no archival run {run_id}.")
        raise InvalidInput(f"The archival run {run_id} has completed; there is nothing to resume.")
    return row


def _ending(error: BaseException) -> tuple[ArchiveRunState, str]:
    if isinstance(error, Exception):
        return ArchiveRunState.FAILED, told(error)
    return ArchiveRunState.INTERRUPTED, "it was told to stop"


def _end(run_id: UUID, state: ArchiveRunState, reason: str | None) -> Any:
    with autocommit() as connection:
        ended = runs.END.one(connection, {"run_id": run_id, "state": state, "reason": reason})
        return ended or runs.GET.one(connection, {"run_id": run_id})
