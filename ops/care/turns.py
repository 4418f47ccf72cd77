"""Turns whose worker has gone: closed, so that whoever waits for them need not wait for the next caller."""

import logging
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from app.repositories.care import STALE_TURNS
from app.services.stale import close_stale as silent_turn_closed
from ops.care.batches import TimeBox, autocommit

_NOBODY = UUID(int=0)
_LOCKED = "55P03"  # by somebody who has held the conversation for longer than a statement waits

_log = logging.getLogger("parley.turns")


@dataclass(frozen=True, slots=True)
class StaleTurnsClosed:
    """`silent` turns were found; `closed` ended as interrupted. The others spoke again, or somebody else was faster or
    holds their conversation.
    """

    silent: int
    closed: int
    more: bool = False
    dry_run: bool = False


def close_stale(
    *, stale_seconds: float, batch: int = 100, seconds: float | None = None, dry_run: bool = False
) -> StaleTurnsClosed:
    """Close running turns that have been silent for `stale_seconds`, each by the statement that the next caller uses.

    `seconds` bounds the run; `dry_run` only counts.
    """
    time_box, silent, closed = TimeBox(seconds), 0, 0
    after = {"after_user": _NOBODY, "after_id": _NOBODY}
    with autocommit() as connection:
        while True:
            page = STALE_TURNS.all(connection, {**after, "stale_seconds": stale_seconds, "batch": batch})
            silent += len(page)
            for turn in page:
                if dry_run:
                    continue
                try:
                    closed += silent_turn_closed(connection, stale_seconds=stale_seconds, **turn._asdict())
                except DBAPIError as error:
                    if getattr(error.orig, "pgcode", None) != _LOCKED:
                        raise
                    _log.warning("a silent turn is locked by somebody", extra={"turn_id": str(turn.turn_id)})
            if len(page) < batch:
                return StaleTurnsClosed(silent, closed, dry_run=dry_run)
            if time_box.over:
                return StaleTurnsClosed(silent, closed, more=True, dry_run=dry_run)
            after = {"after_user": page[-1].user_id, "after_id": page[-1].turn_id}
