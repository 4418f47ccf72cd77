"""Whether a restored database hangs together: no row that refers to nothing, no index that misses one."""

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.database import said
from app.repositories.statement import Statement

# Restoring a foreign key checks every row, but not where it had not been validated at home either.
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
SELECT pg_catalog.quote_ident(n.nspname) AS home FROM pg_catalog.pg_extension AS e
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


def orphans(connection: Connection) -> list[str]:
    """Foreign keys that some row does not keep. Validates them, so not to be called on anything but a scratch database.

    A sentence each.
    """
    problems = []
    for row in UNVALIDATED.all(connection, {}):
        statement = f"ALTER TABLE {row.name} VALIDATE CONSTRAINT {row.key}"  # quoted by PostgreSQL
        try:
            connection.exec_driver_sql(statement.replace("%", "%%"), {})
        except DBAPIError:  # whose words hold the row's key
            problems.append(f"{row.name} has rows whose foreign key {row.key} leads nowhere")
    return problems


def broken_indexes(connection: Connection) -> list[str] | str:
    """B-tree indexes that amcheck finds fault with, a sentence each; or why it cannot be asked."""
    try:
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS amcheck")
    except DBAPIError as error:
        return f"could not be judged: {said(error)}"
    row = AMCHECK.one(connection, {})
    assert row is not None  # noqa: S101  # it was just made
    look = Statement("drill.bt_index_check", f"SELECT {row.home}.bt_index_check(%(id)s::oid::regclass, true)")
    problems = []
    for index in BTREES.all(connection, {}):
        try:
            look.all(connection, {"id": index.id})
        except DBAPIError as error:
            problems.append(f"the index {index.name} is broken: {said(error)}")
    return problems
