"""Turns whose worker has gone: closed, so that whoever waits for them need not wait for the next caller."""

from dataclasses import dataclass
from uuid import UUID

import orjson

from app.errors import TurnInterrupted
from app.repositories import turns as sql
from app.repositories.care import STALE_TURNS
from ops.care.batches import TimeBox, autocommit

_NOBODY = UUID(int=0)
_ERROR = TurnInterrupted("The process that was answering went silent; send the message again.")


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
    error = orjson.dumps({"code": _ERROR.code, "detail": _ERROR.detail}).decode()
    after = {"after_user": _NOBODY, "after_id": _NOBODY}
    with autocommit() as connection:
        while True:
            page = STALE_TURNS.all(connection, {**after, "stale_seconds": stale_seconds, "batch": batch})
            silent += len(page)
            for turn in page:
                parameters = {**turn._asdict(), "stale_seconds": stale_seconds, "error": error}
                if not dry_run and sql.CLOSE_STALE.one(connection, parameters) is not None:
                    closed += 1
            if len(page) < batch:
                return StaleTurnsClosed(silent, closed, dry_run=dry_run)
            if time_box.over:
                return StaleTurnsClosed(silent, closed, more=True, dry_run=dry_run)
            after = {"after_user": page[-1].user_id, "after_id": page[-1].turn_id}
