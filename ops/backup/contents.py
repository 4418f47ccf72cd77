"""Reading what a database holds, so that two databases can be compared: the live one's snapshot and a restored one.

The digest of a table is the sum of a hash of each row's text, so it does not depend on their order, which a restore
changes. SHA-256 is the same on every version of PostgreSQL, which its internal hash functions do not promise. 300,000
rows of 570 bytes took 1.9 s on PostgreSQL 18 and 2.7 s on 15.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from app.repositories.statement import Statement
from ops.backup.manifest import Contents, Origin, Table

# What decides how a value is written. row_security off: a policy that hides rows is an error, not a smaller backup.
_OUTPUT = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "search_path": "",
    "row_security": "off",
}

SET = Statement("backup.set", "SELECT set_config(%(name)s, %(value)s, false)")

MAY_KNOW = Statement(
    "backup.may_know", "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') AS it"
)
_ORIGIN = """
SELECT current_database() AS database, {identifier} AS system_identifier,
       current_setting('server_version') AS server_version, pg_catalog.getdatabaseencoding() AS encoding,
       pg_catalog.now() AS taken_at"""
ORIGIN = Statement(
    "backup.origin",
    f"{_ORIGIN.format(identifier='system_identifier')} FROM pg_catalog.pg_control_system()",
)
# Everybody may know which server it is, unless somebody took that away; then its databases' names tell them apart.
NAMELESS_ORIGIN = Statement("backup.nameless_origin", _ORIGIN.format(identifier="0::bigint"))

_OURS = """
       nspname NOT LIKE 'pg\\_%%' AND nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                    WHERE d.classid = {catalogue!r}::regclass AND d.objid = {alias}.oid AND d.deptype = 'e')"""


def _ours(catalogue: str, alias: str) -> str:
    """No system's objects, and no extension's: those come with it."""
    return _OURS.format(catalogue=f"pg_catalog.{catalogue}", alias=alias)


# Partitioned tables hold nothing themselves; their partitions are tables like others.
TABLES = Statement(
    "backup.tables",
    f"""
SELECT pg_catalog.format('%%I.%%I', nspname, c.relname) AS name, c.relname AS short
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {_ours("pg_class", "c")}
 ORDER BY 1""",  # noqa: S608  # put together from constants
)

OBJECTS = Statement(
    "backup.objects",
    f"""
SELECT kind, count(*)::int AS number
  FROM (SELECT CASE c.relkind WHEN 'i' THEN 'indexes' WHEN 'S' THEN 'sequences' WHEN 'v' THEN 'views'
                              WHEN 'm' THEN 'views' WHEN 'p' THEN 'partitioned tables' END AS kind
          FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('i', 'S', 'v', 'm', 'p') AND c.relpersistence <> 't' AND {_ours("pg_class", "c")}
         UNION ALL
        SELECT CASE WHEN c.contype = 'f' THEN 'foreign keys' ELSE 'constraints' END
          FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.connamespace
         WHERE c.contype IN ('p', 'u', 'c', 'x', 'f') AND {_ours("pg_constraint", "c")}
         UNION ALL
        SELECT 'functions' FROM pg_catalog.pg_proc AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.pronamespace
         WHERE {_ours("pg_proc", "c")}
         UNION ALL
        SELECT 'triggers' FROM pg_catalog.pg_trigger AS c
          JOIN pg_catalog.pg_class AS t ON t.oid = c.tgrelid
          JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
         WHERE NOT c.tgisinternal AND {_ours("pg_trigger", "c")}) AS counted
 GROUP BY kind ORDER BY kind""",  # noqa: S608  # likewise
)

EXTENSIONS = Statement("backup.extensions", "SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY extname")


def fix_output(connection: Connection) -> None:
    """Have values written in one way, for as long as the connection lives."""
    for name, value in _OUTPUT.items():
        SET.one(connection, {"name": name, "value": value})


def read_origin(connection: Connection) -> Origin:
    """Where we are, and when, by the server."""
    allowed = MAY_KNOW.one(connection, {})
    row = (ORIGIN if allowed and allowed.it else NAMELESS_ORIGIN).one(connection, {})
    assert row is not None  # noqa: S101  # it selects from one row
    return Origin(**{**row._asdict(), "server_version": row.server_version.split()[0]})


def read_contents(connection: Connection, *, each: Callable[[str], None] = lambda table: None) -> Contents:
    """What the database holds, as this connection's transaction sees it. Changes the connection's output settings.

    `each` is called with every table's name before it is read. Raises `DBAPIError`, such as for a missing privilege.
    """
    fix_output(connection)
    contents = Contents(
        tables={},
        objects={row.kind: row.number for row in OBJECTS.all(connection, {})},
        extensions={row.extname: row.extversion for row in EXTENSIONS.all(connection, {})},
        alembic=(),
        newest_message_at=None,
    )
    tables = {}
    for row in TABLES.all(connection, {}):
        each(row.name)
        tables[row.name] = _read_table(connection, row.name)
        if row.short == "alembic_version":
            contents = replace(contents, alembic=tuple(_column(connection, "version_num", row.name)))
        elif row.short == "messages":
            contents = replace(contents, newest_message_at=next(iter(_column(connection, "max(created_at)", row.name))))
    return replace(contents, tables=tables)


def _read_table(connection: Connection, name: str) -> Table:
    found = _on_table(
        "backup.digest",
        """
SELECT count(*) AS rows,
       coalesce(sum(('x' || encode(substring(hash FROM 1 FOR 8), 'hex'))::bit(64)::bigint), 0) AS high,
       coalesce(sum(('x' || encode(substring(hash FROM 9 FOR 8), 'hex'))::bit(64)::bigint), 0) AS low
  FROM (SELECT sha256(convert_to((parley_row.*)::text, 'UTF8')) AS hash
          FROM ONLY {table} AS parley_row OFFSET 0) AS hashed""",
        name,
    ).one(connection, {})
    assert found is not None  # noqa: S101  # an aggregate
    return Table(found.rows, f"{int(found.high) % 2**64:016x}{int(found.low) % 2**64:016x}")


def _column(connection: Connection, expression: str, table: str) -> list[Any]:
    statement = _on_table("backup.column", f"SELECT {expression} AS value FROM {{table}} ORDER BY 1", table)  # noqa: S608
    return [row.value for row in statement.all(connection, {})]


def _on_table(name: str, sql: str, table: str) -> Statement:
    """`table` is quoted by PostgreSQL itself; a percent sign in it must not look like a parameter to the driver."""
    return Statement(name, sql.replace("{table}", table.replace("%", "%%")))
