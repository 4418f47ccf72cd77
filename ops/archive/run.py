"""A run of the archival, through all conversations in the order of their keys, in short transactions.

Each transaction bundles its conversations and moves the cursor, so a run that is killed loses nothing. `resume`
continues behind the cursor.
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

from app.container import current_settings
from app.database import autocommit, driver_message
from app.enums import ArchiveRunState
from app.errors import InvalidInput, NotFound
from app.ids import new_id
from app.repositories import archive_runs as runs
from app.repositories.atomic import atomically
from app.services.search_index import index_conversations
from ops.archive.backlog import read_cutoff
from ops.archive.batch import BatchResult, BundleCheckFailed, advance_cursor, bundle_batch, log_rejection
from ops.archive.candidates import FIRST_KEY, Batch, iter_batches
from ops.archive.lock import archival_lock
from ops.archive.plan import ArchivePlan, plan
from ops.archive.reports import ArchiveRunReport
from ops.archive.throttle import Throttle, throttle_from_settings
from ops.errors import AlreadyRunning
from ops.runs.batches import TimeBudget
from ops.runs.leases import Lease
from ops.runs.progress import ProgressBar, progress

SCHEDULED_SECONDS = 540.0
MAX_FAILURES = 20  # failed conversations of a run; more have a common cause
_CONVERSATION_ERRORS = (BundleCheckFailed, DBAPIError)  # can be caused by a single conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of a run: an approximate number of messages, and seconds. None is no limit."""

    messages: int | None = None
    seconds: float | None = None


def run(
    *,
    resume: UUID | None = None,
    bounds: Bounds = Bounds(),
    total: int | None = None,
    make_throttle: Callable[[Connection], Throttle] = throttle_from_settings,
) -> ArchiveRunReport:
    """Bundle the conversations that are idle for ARCHIVE_AFTER_DAYS, or resume an unfinished run with its own cutoff.

    `total` is the expected number of conversations, for the progress bar. Raises `AlreadyRunning`; `NotFound` and
    `InvalidInput` if `resume` cannot be resumed. An error that stops a run is stored as its reason and raised.
    """
    with archival_lock() as lease, autocommit() as throttle_connection, autocommit() as connection:
        runs.CLOSE_INTERRUPTED.all(connection, {})
        row = _resume_run(connection, resume) if resume else _begin_run(connection)
        throttle = make_throttle(throttle_connection)
        try:
            with progress("Archiving", total=total, unit="conversations") as bar:
                state, reason = _Run(lease, connection, row, throttle, bar, bounds).execute()
        except BaseException as error:
            with suppress(DBAPIError):  # then the next run closes this one
                _end_run(row.id, *_outcome(error))
            raise
        return ArchiveRunReport.from_row(_end_run(row.id, state, reason))


def run_scheduled(
    *, dry_run: bool = False, make_throttle: Callable[[Connection], Throttle] = throttle_from_settings
) -> ArchiveRunReport | ArchivePlan | None:
    """Run the hourly job: resume the last run if it did not complete; begin one new run per day.

    Returns None if archival is off or today's run has completed, the report of a run that is already running, and with
    `dry_run` what a new run would archive.
    """
    if current_settings().archive.after_days == 0:
        return None
    if dry_run:
        return plan()
    budget, report = TimeBudget(SCHEDULED_SECONDS), None
    try:
        last = _latest()
        if last is not None and last.state != ArchiveRunState.COMPLETED:
            report = run(resume=last.id, bounds=Bounds(seconds=budget.remaining), make_throttle=make_throttle)
            if report.state != ArchiveRunState.COMPLETED:
                return report
        if last is None or last.started_at.astimezone(UTC).date() != datetime.now(UTC).date():
            return run(bounds=Bounds(seconds=budget.remaining), make_throttle=make_throttle)
    except AlreadyRunning:
        return _latest()
    return report


def _latest() -> ArchiveRunReport | None:
    with autocommit() as connection:
        row = runs.LATEST.one(connection, {"limit": 1})
    return ArchiveRunReport.from_row(row) if row is not None else None


@dataclass(slots=True)
class _Run:
    """A run in progress."""

    lease: Lease
    connection: Connection
    row: Any
    throttle: Throttle
    bar: ProgressBar
    bounds: Bounds
    budget: TimeBudget = field(init=False)
    messages: int = 0
    failures: int = 0

    def __post_init__(self) -> None:
        self.budget = TimeBudget(self.bounds.seconds)

    def execute(self) -> tuple[ArchiveRunState, str | None]:
        """Process all batches. Returns the final state, and the reason if it did not complete."""
        after = (self.row.cursor_user_id, self.row.cursor_conversation_id) if self.row.cursor_user_id else FIRST_KEY
        for batch in iter_batches(self.connection, self.row.cutoff, after, lambda: self.throttle.messages):
            self.lease.require()
            if self.budget.expired:
                return ArchiveRunState.STOPPED, "its time limit was reached"
            if self.bounds.messages is not None and self.messages >= self.bounds.messages:
                return ArchiveRunState.STOPPED, f"its limit of {self.bounds.messages} messages was reached"
            self._process(batch)
        return ArchiveRunState.COMPLETED, None

    def _process(self, batch: Batch) -> None:
        if not batch.conversations:
            with atomically(self.connection):
                advance_cursor(self.connection, self.row.id, batch, BatchResult())
            return
        started = time.monotonic()
        if batch.unsearchable:  # the search document is built from the messages, so before they are bundled
            index_conversations(sorted(batch.unsearchable))
        try:
            self._bundle(batch)
        except _CONVERSATION_ERRORS as error:
            if getattr(error, "connection_invalidated", False):
                raise
            self._bundle_singly(batch)
        waited = self.throttle.pause(time.monotonic() - started)
        if waited:
            pause = {"run_id": self.row.id, "seconds": waited, "reason": self.throttle.last_pause_reason}
            runs.PAUSED.run(self.connection, pause)

    def _bundle(self, batch: Batch) -> None:
        result = bundle_batch(self.connection, self.row.id, batch, self.row.cutoff)
        self.messages += result.messages
        self.bar.advance(result.conversations, note=self.throttle.note)

    def _bundle_singly(self, batch: Batch) -> None:
        """Bundle each conversation separately and skip those that fail. Raises the error after too many failures."""
        for single in batch.split():
            try:
                self._bundle(single)
            except _CONVERSATION_ERRORS as error:
                self.failures += 1
                if getattr(error, "connection_invalidated", False) or self.failures > MAX_FAILURES:
                    raise
                log_rejection(single.conversations[0][1], _describe(error))
                with atomically(self.connection):
                    advance_cursor(self.connection, self.row.id, single, BatchResult(rejected=1))


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {driver_message(error) if isinstance(error, DBAPIError) else error}"


def _begin_run(connection: Connection) -> Any:
    cutoff = read_cutoff(connection, current_settings().archive.after_days)
    return runs.BEGIN.one(connection, {"run_id": new_id(), "cutoff": cutoff})


def _resume_run(connection: Connection, run_id: UUID) -> Any:
    row = runs.RESUME.one(connection, {"run_id": run_id})
    if row is None:
        if runs.GET.one(connection, {"run_id": run_id}) is None:
            raise NotFound(f"There is no archival run {run_id}.")
        raise InvalidInput(f"The archival run {run_id} has completed; there is nothing to resume.")
    return row


def _outcome(error: BaseException) -> tuple[ArchiveRunState, str]:
    if isinstance(error, Exception):
        return ArchiveRunState.FAILED, _describe(error)
    return ArchiveRunState.INTERRUPTED, "it was interrupted"


def _end_run(run_id: UUID, state: ArchiveRunState, reason: str | None) -> Any:
    with autocommit() as connection:
        ended = runs.END.one(connection, {"run_id": run_id, "state": state, "reason": reason})
        return ended or runs.GET.one(connection, {"run_id": run_id})
