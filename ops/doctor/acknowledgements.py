"""Acknowledged findings: they stay visible, and do not raise the level of their check until their end date."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Protocol, Self
from uuid import UUID

from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from app.bounds import FINDING_OBJECT_LIMIT
from app.database import autocommit
from app.errors import InvalidInput, NotFound
from app.ids import new_id
from app.repositories import check_acknowledgements as sql
from ops.checks.context import CheckContext
from ops.checks.findings import Acknowledgement
from ops.checks.run import CheckResult
from ops.levels import Level, worst
from ops.runs.reasons import checked_reason

MAX_DAYS = 3660  # until the end date
MAX_ACKNOWLEDGEMENTS = 10_000  # that are read; one for each check and object


class ReportedFinding(Protocol):
    """The identity and level of a finding."""

    @property
    def object(self) -> str:
        """The object, such as a table's name; it may be empty."""

    @property
    def level(self) -> Level:
        """The level of the finding."""


@dataclass(frozen=True, slots=True)
class Acknowledgements:
    """All acknowledgements, by check and object."""

    by_finding: Mapping[tuple[str, str], Acknowledgement]

    @classmethod
    def load(cls, context: CheckContext) -> Self:
        """Read them; none without a database, or before the migration that adds their table."""
        if context.open_connection is None:
            return cls({})
        try:
            table = sql.EXISTS.one(context.connection, {})
            rows = _read(context.connection) if table is not None and table.is_there else []
        except DBAPIError:  # the checks report it
            return cls({})
        return cls({(each.check, each.object): each for each in rows})

    def apply(self, result: CheckResult) -> CheckResult:
        """Return `result` with its acknowledged findings marked, and the level of the others."""
        if not self.by_finding:
            return result
        findings = tuple(
            replace(finding, acknowledgement=self.by_finding.get((result.check, finding.object)))
            for finding in result.findings
        )
        levels = [finding.level for finding in findings if not finding.is_acknowledged]
        if result.reason is not None:
            levels.append(Level.UNKNOWN)
        return replace(result, findings=findings, level=worst(levels))


def list_acknowledgements() -> list[Acknowledgement]:
    """Return all acknowledgements, also ended ones, sorted by check and object."""
    with autocommit() as connection:
        return _read(connection)


def acknowledge(
    *, check: str, findings: Sequence[ReportedFinding], of: str | None, reason: str, until: date, by: str
) -> Acknowledgement:
    """Acknowledge one of the reported `findings` of a check until the end of a day; repeating it replaces it.

    `of` is its object. Raises `NotFound` without such a finding, and `InvalidInput` for a date in the past or too far
    away, a reason out of bounds, or an object that must be chosen.
    """
    reason = checked_reason(reason)
    with autocommit() as connection:
        _require_in_future(connection, until)
        finding = _choose(check, findings, of)
        values: dict[str, Any] = {
            "id": new_id(),
            "check_id": check,
            "object": finding.object,
            "level": finding.level.value,
            "reason": reason,
            "ends_on": until,
            "by": by[:255],
        }
        row = sql.PUT.one(connection, values)
    assert row is not None  # noqa: S101  # an upsert without a condition returns its row
    return _acknowledgement(row)


def withdraw(*, acknowledgement_id: UUID) -> Acknowledgement:
    """Delete an acknowledgement: its finding counts again. Raises `NotFound`."""
    with autocommit() as connection:
        row = sql.DELETE.one(connection, {"id": acknowledgement_id})
    if row is None:
        raise NotFound(f"There is no acknowledgement {acknowledgement_id}.")
    return _acknowledgement(row)


def _choose(check: str, findings: Sequence[ReportedFinding], of: str | None) -> ReportedFinding:
    """Return the finding on the object `of`, or the only one. The worst if there are several on the object."""
    if not findings:
        raise NotFound(f"{check} reports no finding, so there is nothing to acknowledge.")
    objects = sorted({finding.object for finding in findings})
    if of is None and len(objects) > 1:
        raise InvalidInput(f"{check} reports several findings; name the object of one of them: {_join(objects)}.")
    found = [finding for finding in findings if of is None or finding.object == of]
    if not found:
        raise NotFound(f"{check} reports no finding on {of!r}; it reports: {_join(objects)}.")
    level = worst(finding.level for finding in found)
    finding = next(finding for finding in found if finding.level is level)
    if len(finding.object) > FINDING_OBJECT_LIMIT:
        raise InvalidInput(f"The object has more than {FINDING_OBJECT_LIMIT} characters and cannot be acknowledged.")
    return finding


def _join(objects: list[str]) -> str:
    shown = [name or "(none)" for name in objects[:10]]
    return ", ".join(shown) + (f" and {len(objects) - 10} more" if len(objects) > 10 else "")


def _require_in_future(connection: Connection, until: date) -> None:
    row = sql.TODAY.one(connection, {})
    if row is None or not row.today <= until <= row.today + timedelta(days=MAX_DAYS):
        raise InvalidInput(
            f"{until} is not a possible end: it must be today or later, at most {MAX_DAYS} days from now (UTC)."
        )


def _read(connection: Connection) -> list[Acknowledgement]:
    return [_acknowledgement(row) for row in sql.ALL.all(connection, {"limit": MAX_ACKNOWLEDGEMENTS})]


def _acknowledgement(row: Row[Any]) -> Acknowledgement:
    return Acknowledgement(
        id=row.id,
        check=row.check_id,
        object=row.object,
        level=Level(row.level),
        reason=row.reason,
        until=row.ends_on,
        by=row.acknowledged_by,
        at=row.acknowledged_at,
        active=row.is_active,
    )
