"""Invalid indexes that a failed step leaves.

An index belongs to the step if it is invalid, no session works on it, it did not exist before, and its name is that of
the index to be created or the one that REINDEX CONCURRENTLY gives to its copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ops.checks.context import CheckContext
from ops.indexes.checks.validity import reindexed_original
from ops.indexes.in_progress import broken_indexes
from ops.indexes.snapshot import Index, read_indexes
from ops.indexes.steps import Step


@dataclass(frozen=True, slots=True)
class TableIndexes:
    """The indexes of a table at one moment: the name of each oid."""

    names: Mapping[int, str]


def table_indexes(context: CheckContext, step: Step) -> TableIndexes:
    """Read the indexes of the step's table."""
    indexes = read_indexes(context).indexes
    return TableIndexes({index.oid: index.sql_name for index in indexes if index.sql_table == step.table})


def indexes_left_by(context: CheckContext, step: Step, before: TableIndexes) -> list[Index]:
    """Return the invalid indexes that `step` left; `before` are the table's indexes before it."""
    snapshot = read_indexes(context)
    return [
        index
        for index in broken_indexes(context, snapshot)
        if index.sql_table == step.table and _is_left_by(step, index, before, reindexed_original(index, snapshot))
    ]


def _is_left_by(step: Step, index: Index, before: TableIndexes, original: Index | None) -> bool:
    old_name = before.names.get(index.oid)
    if original is not None and original.sql_name == step.index:
        # Either the new copy, which did not exist, or the replaced index, which had the name that the copy has now.
        return old_name is None or old_name == step.index
    created = f" CONCURRENTLY {index.sql_plain_name} ON "
    return old_name is None and any(statement.startswith("CREATE ") and created in statement for statement in step.sql)
