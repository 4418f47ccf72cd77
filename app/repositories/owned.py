"""Where something of a person's can be: every table of the models whose rows have an owner.

Read from the models, so that a new table is counted, exported and looked for as soon as it is there. The names in these
statements are identifiers of our own models; values travel as parameters.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import Connection, Table

from app.extensions import Base
from app.repositories.statement import Statement

OWNER = "user_id"
ACCOUNTS = "users"


def owned_tables() -> list[Table]:
    """The tables whose rows have an owner, by name."""
    import app.models  # noqa: F401  # which declares them

    return sorted((table for table in Base.metadata.tables.values() if OWNER in table.columns), key=lambda t: t.name)


def count_rows(connection: Connection, user_id: UUID) -> Mapping[str, int]:
    """How many rows each table has of somebody's, the account itself among them; tables with none are left out."""
    columns = {ACCOUNTS: "id", **{str(table.name): OWNER for table in owned_tables()}}
    counted = {}
    for table, column in columns.items():
        statement = Statement(
            f"accounts.count_{table}",
            f'SELECT count(*) AS found FROM "{table}" WHERE {column} = %(user_id)s',
        )
        row = statement.one(connection, {"user_id": user_id})
        counted[table] = int(row.found) if row else 0
    return {table: found for table, found in counted.items() if found}


def key_of(table: Table) -> list[str]:
    """The columns by which an owner's rows are told apart, in their order."""
    return [column.name for column in table.primary_key if column.name != OWNER]


def next_rows(table: Table, *, first: bool) -> Statement:
    """Up to %(limit)s rows of %(user_id)s, in the order of their keys: `told` is one, and `key_0`, `key_1`... its key.

    If not the `first` ones, those behind the key %(after_0)s, %(after_1)s...
    """
    keys: Sequence[str] = key_of(table)
    names = ", ".join(f'"{key}"' for key in keys)
    told = "".join(f', "{key}" AS key_{number}' for number, key in enumerate(keys))
    places = ", ".join(f"%(after_{number})s" for number in range(len(keys)))
    beyond = "" if first else f" AND ({names}) > ({places})"
    order = f" ORDER BY {names}" if keys else ""
    return Statement(
        f"accounts.export_{table.name}",
        f'SELECT to_jsonb(t) AS told{told} FROM "{table.name}" AS t'
        f" WHERE {OWNER} = %(user_id)s{beyond}{order} LIMIT %(limit)s",
    )
