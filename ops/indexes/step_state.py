"""The state of the index, or of the table, of a plan's step."""

from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.errors import UnknownState
from ops.indexes.steps import Step

INDEX_STATE = Statement(
    "ops.index_seen",
    """
SELECT pg_relation_size(c.oid) AS bytes, i.indisvalid AS valid, pg_get_indexdef(c.oid) AS definition,
       pg_indexes_size(i.indrelid) AS table_indexes_bytes
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.oid = to_regclass(%(name)s)""",
)
TABLE_STATE = Statement(
    "ops.table_seen",
    """
SELECT c.reltuples AS rows, s.n_mod_since_analyze AS changed
  FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid WHERE c.oid = to_regclass(%(name)s)""",
)


def read_state(context: CheckContext, step: Step) -> dict[str, Any]:
    """Read the state of the step's index, or of its table where it has none; empty if that does not exist."""
    statement, name = (INDEX_STATE, step.index) if step.index else (TABLE_STATE, step.table)
    try:
        row = statement.one(context.connection, {"name": name})
    except (SQLAlchemyError, UnknownState):
        return {}
    return dict(row._mapping) if row is not None else {}
