"""Findings: the problems that a check reports, and their acknowledgements."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from ops.levels import Level, worst


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """An operator's decision to accept the finding of `check` on `object` until the end of the day `until`, in UTC.

    It covers a finding of at most `level`. `active` is false after the last day.
    """

    id: UUID
    check: str
    object: str
    level: Level
    reason: str
    until: date
    by: str
    at: datetime
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem.

    `message` is one sentence that names the problem and its place; `evidence` has the numbers behind it. `object`
    identifies the finding among those of its check, such as a table's name; it does not contain numbers that change.
    `remedy` is the next command or action, or a question if an operator must decide; `sql` is the
    statement that fixes the problem, where one exists.
    """

    level: Level
    message: str
    object: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedy: str | None = None
    sql: str | None = None
    acknowledgement: Acknowledgement | None = None

    @property
    def is_acknowledged(self) -> bool:
        """Whether an acknowledgement covers it, so that it does not raise the level of its check."""
        accepted = self.acknowledgement
        return accepted is not None and accepted.active and worst((self.level, accepted.level)) is accepted.level
