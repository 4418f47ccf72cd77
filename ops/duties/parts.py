"""What one part of a duty has to say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.doctor import Answer
from ops.levels import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a function of a part tells: a sentence, and the figures behind it, in rows if they are many."""

    says: str
    level: Level = Level.OK
    figures: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """One part. `answers` are those of its checks that were not simply ok; `asked` were asked in all."""

    part: str
    level: Level
    says: str
    asked: int
    answers: tuple[Answer, ...]
    figures: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DutyReport:
    """A duty as it was done. `level` is the worst of its parts."""

    duty: str
    level: Level
    parts: tuple[PartReport, ...]
