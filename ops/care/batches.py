"""How upkeep goes through many rows: few at a time, each batch a transaction of its own, until done or out of time."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from app.extensions import db
from app.repositories.statement import Statement


@dataclass(frozen=True, slots=True)
class Purged:
    """How many rows were removed, or would be (`dry_run`). `more`: time ran out, and the next run goes on."""

    removed: int
    more: bool = False
    dry_run: bool = False


class TimeBox:
    """Says when to stop taking on more. `seconds` None is no limit."""

    def __init__(self, seconds: float | None) -> None:
        self._until = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds until then."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    @property
    def over(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until


@contextmanager
def autocommit() -> Iterator[Connection]:
    """A connection on which each statement is its own transaction."""
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


def purge(statement: Statement, parameters: Mapping[str, Any], *, batch: int, time_box: TimeBox) -> Purged:
    """Run a deleting statement, which takes `batch` and returns what it removed, until it removes less than that."""
    removed = 0
    with autocommit() as connection:
        while True:
            gone = len(statement.all(connection, {**parameters, "batch": batch}))
            removed += gone
            if gone < batch:
                return Purged(removed)
            if time_box.over:
                return Purged(removed, more=True)


def count(statement: Statement, parameters: Mapping[str, Any]) -> int:
    """The number that a counting statement returns."""
    with autocommit() as connection:
        row = statement.one(connection, parameters)
    return int(row[0]) if row is not None else 0
