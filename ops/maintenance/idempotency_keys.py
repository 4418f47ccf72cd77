"""Purge of expired idempotency keys, which can then be used again."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.database import autocommit
from app.repositories.maintenance import COUNT_EXPIRED_KEYS, COUNT_TURN_KEYS, FREE_TURN_KEYS, PURGE_KEYS
from ops.runs.batches import TimeBudget, count, purge

KEEP = timedelta(hours=24)  # of a turn's key, from its last start; other keys store their own expiry


@dataclass(frozen=True, slots=True)
class IdempotencyKeyPurgeReport:
    """Numbers of purged keys: of stored `responses`, which were deleted, and of `turns`, which were kept."""

    responses: int
    turns: int
    more: bool = False
    dry_run: bool = False


def purge_idempotency_keys(
    *, keep: timedelta = KEEP, batch: int = 1000, seconds: float | None = None, dry_run: bool = False
) -> IdempotencyKeyPurgeReport:
    """Delete the expired stored responses, and the expired keys of turns. `seconds` limits the run."""
    budget = TimeBudget(seconds)
    if dry_run:
        responses, more = count(COUNT_EXPIRED_KEYS, {}), False
    else:
        purged = purge(PURGE_KEYS, {}, batch=batch, budget=budget)
        responses, more = purged.deleted, purged.more
    turns, unfinished = _purge_turn_keys(keep, batch, budget, dry_run)
    return IdempotencyKeyPurgeReport(responses, turns, more=more or unfinished, dry_run=dry_run)


def _purge_turn_keys(keep: timedelta, batch: int, budget: TimeBudget, dry_run: bool) -> tuple[int, bool]:
    """Return the number of purged keys, and whether the time ran out."""
    statement, purged = COUNT_TURN_KEYS if dry_run else FREE_TURN_KEYS, 0
    after: dict[str, Any] = {"after_user": UUID(int=0), "after_key": ""}
    with autocommit() as connection:
        while True:
            page = statement.one(connection, {**after, "keep": keep.total_seconds(), "batch": batch})
            assert page is not None  # noqa: S101  # it selects from one constant row
            purged += page.freed
            if page.last:
                return purged, False
            if budget.expired:
                return purged, True
            after = {"after_user": page.user_id, "after_key": page.idempotency_key}
