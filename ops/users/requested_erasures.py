"""Erasures that users have requested by deleting their account, and whose job was lost or interrupted."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from app.database import autocommit
from app.errors import UserHeld
from app.repositories import erasure as sql
from app.services.account_changes import ERASURE_REASON
from ops.errors import AlreadyRunning
from ops.runs.batches import TimeBudget
from ops.users.erasure import run_erasure_job

MIN_AGE = timedelta(minutes=10)  # a job of the request is probably running before
SECONDS = 1500.0  # of the job's time limit of 30 minutes
_BATCH = 100


@dataclass(frozen=True, slots=True)
class RequestedErasuresReport:
    """Numbers of erased users, of users with a legal hold, and of users that another run is erasing.

    `more` is true if time ran out; the next run continues.
    """

    erased: int = 0
    held: int = 0
    busy: int = 0
    more: bool = False


def erase_requested(*, seconds: float = SECONDS, min_age: timedelta = MIN_AGE) -> RequestedErasuresReport:
    """Erase every user who requested it longer than `min_age` ago."""
    budget, after = TimeBudget(seconds), None
    erased = held = busy = 0
    while page := _requested(min_age, after):
        for user_id in page:
            if budget.expired:
                return RequestedErasuresReport(erased, held, busy, more=True)
            try:
                run_erasure_job(user_id=str(user_id), reason=ERASURE_REASON, by=str(user_id))
                erased += 1
            except UserHeld:
                held += 1
            except AlreadyRunning:
                busy += 1
        after = page[-1]
    return RequestedErasuresReport(erased, held, busy)


def _requested(min_age: timedelta, after: UUID | None) -> list[UUID]:
    parameters = {"seconds": min_age.total_seconds(), "after": after, "limit": _BATCH}
    with autocommit() as connection:
        return [row.user_id for row in sql.REQUESTED.all(connection, parameters)]
