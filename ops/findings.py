"""What a check has to say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.levels import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. `what` says in a sentence what and where, `evidence` in which numbers that shows.

    `remedy` is the next command or what else to do; `sql` the statement that would mend it, where there is one.
    """

    level: Level
    what: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedy: str | None = None
    sql: str | None = None


class CannotJudge(Exception):
    """A check does not know: the reason in one sentence, and what would let it know."""

    def __init__(self, reason: str, *, remedy: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy
