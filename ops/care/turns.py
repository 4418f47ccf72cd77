"""Turns whose worker has gone: closed, so that whoever waits for them need not wait for the next caller."""

from dataclasses import dataclass
from uuid import UUID

from app.repositories.care import STALE_TURNS
from app.services.stale import close_stale as silent_turn_closed
from ops.care.batches import TimeBox, autocommit

_NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class StaleTurnsClosed:
    """`silent` turns were found; `closed` ended as interrupted. The others spoke again, or somebody else was faster."""

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
                if not dry_run and silent_turn_closed(connection, stale_seconds=stale_seconds, **turn._asdict()):
                    closed += 1
            if len(page) < batch:
                return StaleTurnsClosed(silent, closed, dry_run=dry_run)
            if time_box.over:
                return StaleTurnsClosed(silent, closed, more=True, dry_run=dry_run)
            after = {"after_user": page[-1].user_id, "after_id": page[-1].turn_id}
