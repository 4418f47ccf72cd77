"""Integrity checks of a restored database: foreign keys and B-tree indexes."""

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.database import driver_message
from app.repositories.statement import Statement

# pg_restore checks every row of a foreign key, unless the constraint was NOT VALID in the source.
UNVALIDATED = Statement(
    "drill.unvalidated",
    """
SELECT pg_catalog.format('%%I.%%I', n.nspname, t.relname) AS name, pg_catalog.format('%%I', c.conname) AS key
  FROM pg_catalog.pg_constraint AS c
  JOIN pg_catalog.pg_class AS t ON t.oid = c.conrelid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
 WHERE c.contype = 'f' AND NOT c.convalidated
   AND (pg_catalog.to_jsonb(c) ->> 'conenforced') IS DISTINCT FROM 'false'
 ORDER BY 1, 2""",
)

AMCHECK = Statement(
    "drill.amcheck",
    """
SELECT pg_catalog.quote_ident(n.nspname) AS schema_name FROM pg_catalog.pg_extension AS e
  JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'""",
)

BTREES = Statement(
    "drill.btrees",
    """
SELECT i.indexrelid::bigint AS id, c.relname AS name
  FROM pg_catalog.pg_index AS i
  JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_am AS a ON a.oid = c.relam
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE a.amname = 'btree' AND c.relkind = 'i' AND n.nspname NOT LIKE 'pg\\_%%' ORDER BY 2""",
)


def find_orphan_rows(connection: Connection) -> list[str]:
    """Validate the unvalidated foreign keys and return one sentence per violated key.

    Changes the database, so call it only on a scratch database.
    """
    problems = []
    for row in UNVALIDATED.all(connection, {}):
        statement = f"ALTER TABLE {row.name} VALIDATE CONSTRAINT {row.key}"  # quoted by PostgreSQL
        try:
            connection.exec_driver_sql(statement.replace("%", "%%"), {})
        except DBAPIError:  # its message contains the key's values, so it is not shown
            problems.append(f"{row.name} has rows that violate the foreign key {row.key}")
    return problems


def find_broken_indexes(connection: Connection) -> list[str] | str:
    """Check every B-tree index with amcheck; return one sentence per broken index, or why amcheck cannot run."""
    try:
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS amcheck")
    except DBAPIError as error:
        return f"could not be checked: {driver_message(error)}"
    row = AMCHECK.one(connection, {})
    assert row is not None  # noqa: S101  # it was just created
    check = Statement("drill.bt_index_check", f"SELECT {row.schema_name}.bt_index_check(%(id)s::oid::regclass, true)")
    problems = []
    for index in BTREES.all(connection, {}):
        try:
            check.all(connection, {"id": index.id})
        except DBAPIError as error:
            problems.append(f"the index {index.name} is broken: {driver_message(error)}")
    return problems
