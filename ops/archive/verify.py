"""Verification of bundles, and of the rule that messages are either live or bundled, never both or neither.

If the time is too short for all bundles, it starts at a random one, so that repeated runs cover every bundle.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from app.database import autocommit
from app.errors import ArchiveDamaged
from app.metrics.archive import record_archive_bundles
from app.repositories import archives as sql
from app.services import bundles
from ops.archive.candidates import FIRST_KEY, Key
from ops.runs.batches import TimeBudget
from ops.runs.progress import progress

BATCH, BATCH_BYTES = 500, 16_000_000
PAGE = 5_000  # conversations read by one statement
MAX_DAMAGES = 20  # in a report
DAILY_SECONDS = 540


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A damaged archive of a conversation."""

    conversation_id: UUID
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleVerifyReport:
    """The result of a verification: `verified` of all `bundles` were read. `damages` are the first 20 of `damaged`.

    `complete` is false if the time was too short to read everything.
    """

    bundles: int
    verified: int
    damaged: int
    damages: tuple[Damage, ...] = ()
    complete: bool = True


def run_daily_verification() -> BundleVerifyReport:
    """Verify for up to nine minutes and record the metrics."""
    report = verify(seconds=DAILY_SECONDS)
    record_archive_bundles(report.bundles, report.damaged)
    return report


def verify(*, seconds: float | None = None) -> BundleVerifyReport:
    """Verify all bundles and the location of every conversation's messages, or as many as the time allows."""
    with autocommit() as connection:
        return verify_with(connection, seconds=seconds)


def verify_with(connection: Connection, *, seconds: float | None = None) -> BundleVerifyReport:
    """Verify as `verify` does, on a connection in AUTOCOMMIT. Half of the time is for the locations."""
    count: Any = sql.COUNT_BUNDLED.one(connection, {"run_id": None, "owner_id": None, "conversation_id": None})
    damages: list[Damage] = []
    half = None if seconds is None else seconds / 2
    verified, complete = 0, _find_misplaced(connection, damages, TimeBudget(half))
    with progress("Verifying", total=count.conversations, unit="bundles") as bar:
        budget = TimeBudget(half)
        for row in _iter_bundles(connection, count.conversations):
            try:
                bundles.verify(bundles.from_row(row))
            except ArchiveDamaged as error:
                damages.append(Damage(conversation_id=row.conversation_id, reason=error.reason))
            verified += 1
            bar.advance(note=f"{len(damages)} damaged" if damages else None)
            if budget.expired:
                complete = False
                break
    return BundleVerifyReport(
        bundles=count.conversations,
        verified=verified,
        damaged=len(damages),
        damages=tuple(damages[:MAX_DAMAGES]),
        complete=complete,
    )


def _iter_bundles(connection: Connection, count: int) -> Iterator[Any]:
    """Yield every bundle once, from a random one to the last, then from the first."""
    start = _random_start(connection, count)
    yield from _iter_range(connection, start, None)
    if start != FIRST_KEY:
        yield from _iter_range(connection, FIRST_KEY, start)


def _iter_range(connection: Connection, after: Key, end: Key | None) -> Iterator[Any]:
    while True:
        keys = {"after_user": after[0], "after_id": after[1]}
        page = sql.NEXT.all(connection, {**keys, "batch": BATCH, "bytes": BATCH_BYTES})
        for row in page:
            if end is not None and (row.user_id, row.conversation_id) > end:
                return
            yield row
        if not page:
            return
        after = (page[-1].user_id, page[-1].conversation_id)


def _random_start(connection: Connection, count: int) -> Key:
    if count <= BATCH:
        return FIRST_KEY
    row = sql.RANDOM_START.one(connection, {"percent": min(100.0, 100 * 50 / count)})
    return (row.user_id, row.conversation_id) if row is not None else FIRST_KEY


def _find_misplaced(connection: Connection, damages: list[Damage], budget: TimeBudget) -> bool:
    """Add the conversations whose messages are both live and bundled, or neither. Returns whether all were checked."""
    after = FIRST_KEY
    while True:
        keys = {"after_user": after[0], "after_id": after[1], "batch": PAGE}
        page: Any = sql.MISPLACED.all(connection, keys)
        misplaced = [row for row in page if row.conversation_id]
        damages += [Damage(conversation_id=row.conversation_id, reason=_describe(row)) for row in misplaced]
        if page[0].examined < PAGE:
            return True
        if budget.expired:
            return False
        after = (page[0].last_user, page[0].last_id)


def _describe(row: Any) -> str:
    if row.storage == "live":
        return "its messages are live, but it also has a bundle"
    return "it is bundled, but also has live messages" if row.live else "it is bundled, but has no bundle"
