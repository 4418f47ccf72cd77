"""Where something of a person's can be: every table of the models whose rows have an owner.

Read from the models, so that a new table is counted, exported and looked for as soon as it is there.
"""

from collections.abc import Mapping
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
        # Both are identifiers of our own models.
        statement = Statement(
            f"accounts.count_{table}",
            f'SELECT count(*) AS found FROM "{table}" WHERE {column} = %(user_id)s',  # noqa: S608
        )
        row = statement.one(connection, {"user_id": user_id})
        counted[table] = int(row.found) if row else 0
    return {table: found for table, found in counted.items() if found}
