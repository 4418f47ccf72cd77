"""The report of an applied plan, and the result of each of its steps."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ops.indexes.steps import Step
from ops.levels import Level


class Outcome(enum.StrEnum):
    """The outcome of one step."""

    DONE = "done"
    WOULD_BE_DONE = "would be done"  # in a dry run
    NOT_NEEDED = "not needed any more"
    HELD_BACK = "held back"  # a precondition is not met
    FAILED = "failed"


LEVELS = {Outcome.HELD_BACK: Level.WARNING, Outcome.FAILED: Level.CRITICAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The result of one step.

    `before` and `after` are the state of its index, or of its table where it has none. `cleaned` and `left_behind` are
    the invalid indexes that a failed step left, dropped and not.
    """

    check: str
    index: str
    sql: tuple[str, ...]
    outcome: Outcome
    reason: str | None = None
    seconds: float = 0.0
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    undo: tuple[str, ...] = ()
    cleaned: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyReport:
    """The results of a plan's steps. `level` is critical if a step failed, a warning if one was held back."""

    database: str
    planned_at: datetime
    dry_run: bool
    level: Level
    steps: tuple[StepResult, ...]


def step_result(step: Step, outcome: Outcome, reason: str | None = None, **fields: Any) -> StepResult:
    """Return the result of `step`; `fields` are further fields of it."""
    return StepResult(
        check=step.check,
        index=step.index or step.table,
        sql=step.sql,
        outcome=outcome,
        reason=reason,
        undo=step.undo,
        **fields,
    )
