"""The sections of a routine's report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.checks.run import CheckResult
from ops.levels import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section: a sentence, the values behind it, and the rows of its table."""

    summary: str
    level: Level = Level.OK
    data: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """The section of one part, and its checks: `checked` counts all of them, `results` has those that are not ok."""

    part: str
    level: Level
    summary: str
    checked: int
    results: tuple[CheckResult, ...]
    data: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutineReport:
    """The report of one run of a routine. `level` is the worst of its parts."""

    routine: str
    level: Level
    parts: tuple[PartReport, ...]
