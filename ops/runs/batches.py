"""Batched deletes for maintenance: small transactions, until no rows are left or the time budget is used up."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.database import autocommit
from app.repositories.statement import Statement


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """Rows deleted by a purge, or with `dry_run` the rows it would delete.

    `more` is true if time ran out before all rows were deleted; the next run continues.
    """

    deleted: int
    more: bool = False
    dry_run: bool = False


class TimeBudget:
    """A deadline `seconds` from now; None means no limit."""

    def __init__(self, seconds: float | None) -> None:
        self._deadline = None if seconds is None else time.monotonic() + seconds

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None without a limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self._deadline is not None and time.monotonic() >= self._deadline


def purge(statement: Statement, parameters: Mapping[str, Any], *, batch: int, budget: TimeBudget) -> PurgeReport:
    """Repeat a DELETE that takes `batch` and returns the deleted rows, until a batch is not full or time is up."""
    deleted = 0
    with autocommit() as connection:
        while True:
            rows = len(statement.all(connection, {**parameters, "batch": batch}))
            deleted += rows
            if rows < batch:
                return PurgeReport(deleted)
            if budget.expired:
                return PurgeReport(deleted, more=True)


def count(statement: Statement, parameters: Mapping[str, Any]) -> int:
    """Return the number that a counting statement selects."""
    with autocommit() as connection:
        row = statement.one(connection, parameters)
    return int(row[0]) if row is not None else 0
