"""Recount of the bytes that users store, and correction of what the triggers have counted."""

import logging
from dataclasses import dataclass
from uuid import UUID

from app.database import autocommit
from app.repositories import stored_bytes as sql
from ops.runs.batches import TimeBudget

_FIRST = UUID(int=0)
_MAX_SHOWN = 20

_log = logging.getLogger("parley.ops")


@dataclass(frozen=True, slots=True)
class RecountReport:
    """The number of `users` that were recounted, and of those whose count was `wrong` and was corrected.

    `differences` has the first of them, with the bytes that were missing in the count. `more` is true if time ran out.
    """

    users: int
    wrong: int
    differences: dict[str, int]
    more: bool = False
    dry_run: bool = False


def recount(*, batch: int = 100, seconds: float | None = None, dry_run: bool = False) -> RecountReport:
    """Compare the rows of every user with what is counted, and correct the count unless `dry_run`.

    Both are read in one snapshot, so a user who writes at the same time gets no wrong correction.
    """
    budget, users, differences, after, more = TimeBudget(seconds), 0, dict[str, int](), _FIRST, False
    with autocommit() as connection:
        while page := sql.COMPARE.all(connection, {"after": after, "batch": batch}):
            users, after = users + len(page), page[-1].user_id
            for row in page:
                if row.actual != row.counted:
                    differences[str(row.user_id)] = row.actual - row.counted
                    if not dry_run:
                        sql.CORRECT.one(connection, {"user_id": row.user_id})
            if more := budget.expired:
                break
        if not dry_run:
            sql.PURGE_ERASED.run(connection, {})
    if differences:
        _log.warning("the stored bytes of %d users were counted wrong", len(differences))
    shown = dict(list(differences.items())[:_MAX_SHOWN])
    return RecountReport(users, len(differences), shown, more=more, dry_run=dry_run)
