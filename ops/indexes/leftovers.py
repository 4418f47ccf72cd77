"""What a step of ours leaves behind when it fails: found by what was there before it, and dropped.

Only an index that is not valid, that nobody is at work on, and that this very step made: a copy of its index under the
name that REINDEX CONCURRENTLY gives it, or the index that it was to create.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ops.checks.indexes.reading import Index, read
from ops.checks.indexes.steps import Step
from ops.checks.indexes.validity import leftover_of
from ops.checks.indexes.work import broken
from ops.checks.probe import Probe


@dataclass(frozen=True, slots=True)
class Before:
    """The indexes of a step's table before it began: the name of each oid."""

    names: Mapping[int, str]


def remember(probe: Probe, step: Step) -> Before:
    return Before({index.oid: index.sql_name for index in read(probe).indexes if index.sql_table == step.table})


def left_by(probe: Probe, step: Step, before: Before) -> list[Index]:
    """What `step` left behind."""
    reading = read(probe)
    return [
        index
        for index in broken(probe, reading)
        if index.sql_table == step.table and _is_its_own(step, index, before, leftover_of(index, reading))
    ]


def _is_its_own(step: Step, index: Index, before: Before, original: Index | None) -> bool:
    was = before.names.get(index.oid)
    if original is not None and original.sql_name == step.index:
        # Built by it; or replaced by it, and then it had the name that its successor has now.
        return was is None or was == step.index
    name = f" CONCURRENTLY {index.sql_plain_name} ON "
    return was is None and any(statement.startswith("CREATE ") and name in statement for statement in step.sql)
