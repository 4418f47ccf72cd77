"""The routines and their parts."""

from collections.abc import Callable
from dataclasses import dataclass

from ops.catalogue.declarations import Job
from ops.catalogue.jobs import DAILY_ROUTINE, MONTHLY_ROUTINE, WEEKLY_ROUTINE
from ops.checks.context import CheckContext
from ops.doctor.registry import select_checks
from ops.routines import archival, backups, documents, errors, growth, indexes, queries
from ops.routines.sections import Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a routine: `checks` (ids or groups) to run, and a function that returns a section; or one of them.

    Raises `LookupError` for an unknown check.
    """

    name: str
    checks: tuple[str, ...] = ()
    function: Callable[[CheckContext], Section] | None = None

    def __post_init__(self) -> None:
        select_checks(self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routine:
    """A report for an operator, made regularly by `job`."""

    name: str
    description: str
    job: Job
    parts: tuple[Part, ...]


ROUTINES = (
    Routine(
        name="daily",
        description="Query performance, errors and the last backup.",
        job=DAILY_ROUTINE,
        parts=(
            Part(name="query performance", checks=("statements",), function=queries.busiest_of_last_day),
            Part(name="errors", checks=("jobs.failed",), function=errors.of_last_day),
            Part(name="backup completed", checks=("backup.recent",), function=backups.last_backup),
        ),
    ),
    Routine(
        name="weekly",
        description="Slow queries, table growth, index usage and the last restore drill.",
        job=WEEKLY_ROUTINE,
        parts=(
            Part(name="slow queries", function=queries.slowest_of_last_week),
            Part(name="table growth", checks=("storage.disk", "storage.growth"), function=growth.of_last_week),
            Part(name="index usage", checks=("indexes",), function=indexes.usage),
            Part(name="restore drill", checks=("backup.drill",), function=backups.last_drill),
        ),
    ),
    Routine(
        name="monthly",
        description="The archival, possible index improvements and the documents.",
        job=MONTHLY_ROUTINE,
        parts=(
            Part(name="archival", checks=("archive",), function=archival.of_last_month),
            Part(name="index optimisation", checks=("indexes", "tables"), function=indexes.planned_improvements),
            Part(name="table growth", function=growth.of_last_month),
            Part(name="documents", function=documents.up_to_date),
        ),
    ),
)


def routine_named(name: str) -> Routine:
    """Return the routine `name`. Raises `KeyError`."""
    return {routine.name: routine for routine in ROUTINES}[name]
