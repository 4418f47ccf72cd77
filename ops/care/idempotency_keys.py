"""Idempotency keys that nobody will repeat any more: forgotten, so that they can be used anew."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.repositories.care import COUNT_EXPIRED_KEYS, COUNT_TURN_KEYS, FREE_TURN_KEYS, PURGE_KEYS
from ops.care.batches import TimeBox, autocommit, count, purge

KEEP = timedelta(hours=24)  # of a turn's key, from the turn's last start; other keys carry their own time


@dataclass(frozen=True, slots=True)
class KeysFreed:
    """Keys of answers that were deleted with them, and keys of turns that were taken off them."""

    answers: int
    turns: int
    more: bool = False
    dry_run: bool = False


def free_keys(
    *, keep: timedelta = KEEP, batch: int = 1000, seconds: float | None = None, dry_run: bool = False
) -> KeysFreed:
    """Forget keys whose time has passed; a turn keeps everything but its key. `seconds` bounds the run."""
    time_box = TimeBox(seconds)
    if dry_run:
        answers, more = count(COUNT_EXPIRED_KEYS, {}), False
    else:
        purged = purge(PURGE_KEYS, {}, batch=batch, time_box=time_box)
        answers, more = purged.removed, purged.more
    turns, unfinished = _free_turns(keep, batch, time_box, dry_run)
    return KeysFreed(answers, turns, more=more or unfinished, dry_run=dry_run)


def _free_turns(keep: timedelta, batch: int, time_box: TimeBox, dry_run: bool) -> tuple[int, bool]:
    """How many keys were freed, and whether time ran out before all were looked at."""
    statement, freed = COUNT_TURN_KEYS if dry_run else FREE_TURN_KEYS, 0
    after: dict[str, Any] = {"after_user": UUID(int=0), "after_key": ""}
    with autocommit() as connection:
        while True:
            page = statement.one(connection, {**after, "keep": keep.total_seconds(), "batch": batch})
            assert page is not None  # noqa: S101  # it selects from one constant row
            freed += page.freed
            if page.last:
                return freed, False
            if time_box.over:
                return freed, True
            after = {"after_user": page.user_id, "after_key": page.idempotency_key}
