"""Whether the bundles still are what was stored, and every conversation's messages in exactly one place.

Reads all of it where time allows, and else as much as it allows from a place drawn by lot, so that every bundle has its
turn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from app.errors import ArchiveDamaged
from app.metrics.archive import record_archive_bundles
from app.repositories import archives as sql
from app.services import bundles
from ops.archive.candidates import FIRST, Key
from ops.care.batches import TimeBox, autocommit
from ops.progress import progress

BATCH, BATCH_BYTES = 500, 16_000_000
PAGE = 5_000  # conversations looked at by one statement
SHOWN = 20
DAILY_SECONDS = 540


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What is the matter with the archive of one conversation."""

    conversation_id: UUID
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """`verified` of `bundles` were read whole; `damaged` things are wrong, some of them `damages`. `complete` is false
    where time was up before everything had been read.
    """

    bundles: int
    verified: int
    damaged: int
    damages: tuple[Damage, ...] = ()
    complete: bool = True


def verify_daily() -> Verified:
    """As the clock asks for it: for a quarter of an hour at most, and shown as metrics."""
    found = verify(seconds=DAILY_SECONDS)
    record_archive_bundles(found.bundles, found.damaged)
    return found


def verify(*, seconds: float | None = None) -> Verified:
    """Read the bundles, and look where every conversation's messages are."""
    with autocommit() as connection:
        return verify_on(connection, seconds=seconds)


def verify_on(connection: Connection, *, seconds: float | None = None) -> Verified:
    """The same on a connection in AUTOCOMMIT, half of the time for either."""
    count: Any = sql.COUNT_BUNDLED.one(connection, {"run_id": None, "owner_id": None, "conversation_id": None})
    damages: list[Damage] = []
    half = None if seconds is None else seconds / 2
    looked = _misplaced(connection, damages, TimeBox(half))
    verified, complete = 0, looked
    with progress("Verifying", total=count.conversations, unit="bundles") as bar:
        time_box = TimeBox(half)
        for row in _all(connection, count.conversations):
            try:
                bundles.verify(bundles.stored(row))
            except ArchiveDamaged as error:
                damages.append(Damage(conversation_id=row.conversation_id, why=error.why))
            verified += 1
            bar.advance(note=f"{len(damages)} damaged" if damages else None)
            if time_box.over:
                complete = False
                break
    return Verified(
        bundles=count.conversations,
        verified=verified,
        damaged=len(damages),
        damages=tuple(damages[:SHOWN]),
        complete=complete,
    )


def _all(connection: Connection, count: int) -> Iterator[Any]:
    """Every bundle once, from somewhere on and round to there again."""
    start = _somewhere(connection, count)
    yield from _from(connection, start, None)
    if start != FIRST:
        yield from _from(connection, FIRST, start)


def _from(connection: Connection, after: Key, end: Key | None) -> Iterator[Any]:
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


def _somewhere(connection: Connection, count: int) -> Key:
    if count <= BATCH:
        return FIRST
    row = sql.SOMEWHERE.one(connection, {"percent": min(100.0, 100 * 50 / count)})
    return (row.user_id, row.conversation_id) if row is not None else FIRST


def _misplaced(connection: Connection, damages: list[Damage], time_box: TimeBox) -> bool:
    """Conversations that are in two places, or in none; whether all were looked at."""
    after = FIRST
    while True:
        keys = {"after_user": after[0], "after_id": after[1], "batch": PAGE}
        page: Any = sql.MISPLACED.all(connection, keys)
        damages += [Damage(conversation_id=row.conversation_id, why=_why(row)) for row in page if row.conversation_id]
        if page[0].seen < PAGE:
            return True
        if time_box.over:
            return False
        after = (page[0].last_user, page[0].last_id)


def _why(row: Any) -> str:
    if row.storage == "live":
        return "its messages are live, and there is a bundle as well"
    return "it is bundled, and there are live messages as well" if row.live else "it is bundled, and has no bundle"
