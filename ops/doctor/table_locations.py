"""The schemas in which tables of Parley's names exist."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from app.repositories.statement import Statement

# Tables with those names in all schemas. A visible one is what its name without a schema refers to.
LOCATIONS = Statement(
    "ops.table_locations",
    """
SELECT c.relname AS name, quote_ident(n.nspname) AS sql_schema, pg_table_is_visible(c.oid) AS is_visible,
       current_setting('search_path') AS search_path, has_schema_privilege(n.oid, 'USAGE') AS is_usable,
       n.nspname = ANY (string_to_array(replace(replace(current_setting('search_path'), '"', ''), ' ', ''), ','))
           AS is_in_path,
       has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS is_readable
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.relname = ANY (%(names)s)
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
 ORDER BY 2, 1""",
)


SEVERAL_SCHEMAS = "Parley's tables are in more than one schema, so they cannot be compared with the models."


def schemas_in_use(locations: Sequence[Row[Any]]) -> list[str]:
    """Return the schemas of the tables that names without a schema refer to."""
    return sorted({row.sql_schema for row in locations if row.is_visible})
