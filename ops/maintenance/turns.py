"""Closing of stale turns, whose worker has stopped sending heartbeats."""

import logging
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from app.database import autocommit, sqlstate
from app.repositories.maintenance import STALE_TURNS
from app.turns.stale import close_stale
from ops.runs.batches import TimeBudget

_FIRST = UUID(int=0)
_LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE: the lock timeout has passed

_log = logging.getLogger("parley.turns")


@dataclass(frozen=True, slots=True)
class StaleTurnsReport:
    """The number of `stale` turns, and of those that were `closed` as interrupted.

    The others sent a heartbeat, were closed by another process, or were locked.
    """

    stale: int
    closed: int
    more: bool = False
    dry_run: bool = False


def close_stale_turns(
    *, stale_seconds: float, batch: int = 100, seconds: float | None = None, dry_run: bool = False
) -> StaleTurnsReport:
    """Close running turns without a heartbeat for `stale_seconds`, with the same statement as requests use.

    `seconds` limits the run; `dry_run` only counts.
    """
    budget, stale, closed = TimeBudget(seconds), 0, 0
    after = {"after_user": _FIRST, "after_id": _FIRST}
    with autocommit() as connection:
        while True:
            page = STALE_TURNS.all(connection, {**after, "stale_seconds": stale_seconds, "batch": batch})
            stale += len(page)
            for turn in page:
                if dry_run:
                    continue
                try:
                    closed += close_stale(connection, stale_seconds=stale_seconds, **turn._asdict())
                except DBAPIError as error:
                    if sqlstate(error) != _LOCK_NOT_AVAILABLE:
                        raise
                    _log.warning("a stale turn is locked by another session", extra={"turn_id": str(turn.turn_id)})
            if len(page) < batch:
                return StaleTurnsReport(stale, closed, dry_run=dry_run)
            if budget.expired:
                return StaleTurnsReport(stale, closed, more=True, dry_run=dry_run)
            after = {"after_user": page[-1].user_id, "after_id": page[-1].turn_id}
