"""The tables whose rows belong to a user, read from the models, so that a new table is counted and exported too.

Names in these statements are identifiers of the models; values are parameters.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import Connection, Table

from app.models import Base
from app.repositories.statement import Statement

OWNER = "user_id"
USERS = "users"


def owned_tables() -> list[Table]:
    """Return the tables whose rows have an owner, ordered by name."""
    import app.models  # noqa: F401  # declares them

    return sorted((table for table in Base.metadata.tables.values() if OWNER in table.columns), key=lambda t: t.name)


def count_rows(connection: Connection, user_id: UUID) -> Mapping[str, int]:
    """Return the number of rows of a user by table, the user's own row included; tables without rows are omitted."""
    columns = {USERS: "id", **{str(table.name): OWNER for table in owned_tables()}}
    counts = {}
    for table, column in columns.items():
        statement = Statement(
            f"user_admin.count_{table}",
            f'SELECT count(*) AS rows FROM "{table}" WHERE {column} = %(user_id)s',
        )
        row = statement.one(connection, {"user_id": user_id})
        counts[table] = int(row.rows) if row else 0
    return {table: rows for table, rows in counts.items() if rows}


def key_of(table: Table) -> list[str]:
    """Return the columns of the primary key without the owner, in their order."""
    return [column.name for column in table.primary_key if column.name != OWNER]


def next_rows(table: Table, *, first: bool) -> Statement:
    """Return a statement for up to %(limit)s rows of %(user_id)s in key order: `row` as JSON, and `key_0`, `key_1`...

    Unless they are the `first` ones, those after the key %(after_0)s, %(after_1)s...
    """
    keys: Sequence[str] = key_of(table)
    names = ", ".join(f'"{key}"' for key in keys)
    key_columns = "".join(f', "{key}" AS key_{number}' for number, key in enumerate(keys))
    parameters = ", ".join(f"%(after_{number})s" for number in range(len(keys)))
    after = "" if first else f" AND ({names}) > ({parameters})"
    order = f" ORDER BY {names}" if keys else ""
    return Statement(
        f"user_admin.export_{table.name}",
        f'SELECT to_jsonb(t) AS row{key_columns} FROM "{table.name}" AS t'
        f" WHERE {OWNER} = %(user_id)s{after}{order} LIMIT %(limit)s",
    )
