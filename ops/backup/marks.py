"""Marks of restored databases, in their comments: whether a restore is complete.

A comment on a database stays with it when it is renamed, is seen from every database of the server, and is part of no
dump. Text that was there before stays behind the mark.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.database import driver_message
from app.repositories.statement import Statement
from ops.backup.errors import RestoreFailed
from ops.backup.target import APPLICATION_NAME, Target

# RETURNED: a replaced database that a later switch made the current one again.
BEGUN, COMPLETE, REPLACED, RETURNED = "begun", "complete", "replaced", "returned"
_MARK = re.compile(
    r"Parley (?:restore of (?P<backup>\S+)|database), (?P<state>begun|complete|replaced|returned) "
    r"at (?P<at>[\d-]+ [\d:]+)Z"
)
_TIME = "%Y-%m-%d %H:%M:%S"

COMMENT = Statement(
    "restore.comment",
    """
SELECT pg_catalog.shobj_description(oid, 'pg_database') AS text, pg_catalog.quote_ident(datname) AS name
  FROM pg_catalog.pg_database WHERE datname = %(name)s""",
)
QUOTE_LITERAL = Statement("restore.quote_literal", "SELECT pg_catalog.quote_literal(%(text)s) AS literal")
# A restore holds a connection to its database from its beginning to its end.
UNFINISHED = Statement(
    "restore.unfinished",
    """
SELECT datname AS name, pg_catalog.shobj_description(oid, 'pg_database') AS text
  FROM pg_catalog.pg_database
 WHERE pg_catalog.shobj_description(oid, 'pg_database') LIKE 'Parley restore of %%, begun at %%'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS a
                    WHERE a.datid = pg_database.oid AND a.application_name = %(application)s)
 ORDER BY datname""",
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark: `backup` is None for a database that was not restored, but replaced or returned."""

    state: str
    backup: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedRestore:
    """A database whose restore was cut off, and the command that removes it."""

    database: Annotated[str, "Name of the database."]
    backup: Annotated[str, "Name of the backup."]
    begun_at: Annotated[datetime, "When the restore began."]
    remove: Annotated[str, "The command that removes the database."]


def parse_mark(comment: str | None) -> Mark | None:
    """Return the mark at the beginning of a database's comment, or None."""
    match = _MARK.match(comment or "")
    if match is None:
        return None
    return Mark(match["state"], match["backup"], datetime.strptime(match["at"], _TIME).replace(tzinfo=UTC))


def read_mark(connection: Connection, database: str) -> Mark | None:
    """Return the mark of a database of the connection's server, or None."""
    row = COMMENT.one(connection, {"name": database})
    return parse_mark(row.text) if row is not None else None


def set_mark(target: Target, state: str, backup: str) -> None:
    """Mark the database as `state`. Raises `RestoreFailed` if the role does not own it."""
    with target.connected() as connection:
        statement = mark_statement(connection, target.database, state, backup)
        try:
            connection.exec_driver_sql(statement)
        except DBAPIError as error:
            raise RestoreFailed(
                f"The restore into {target.database} cannot be marked ({driver_message(error)}): let its role own the "
                f"database (ALTER DATABASE ... OWNER TO {target.parameters['user']})"
            ) from error


def mark_statement(connection: Connection, database: str, state: str, backup: str | None = None) -> str:
    """Return the statement that marks a database and keeps the rest of its comment."""
    row = COMMENT.one(connection, {"name": database})
    assert row is not None  # noqa: S101  # the caller is connected to it, or has found it
    subject = f"restore of {backup}" if backup else "database"
    others = _MARK.sub("", row.text or "", count=1).strip()
    text = f"Parley {subject}, {state} at {datetime.now(UTC):{_TIME}}Z {others}".rstrip()
    literal = QUOTE_LITERAL.one(connection, {"text": text})
    assert literal is not None  # noqa: S101  # it selects one value
    return f"COMMENT ON DATABASE {row.name} IS {literal.literal}".replace("%", "%%")


def unfinished_restores(connection: Connection) -> list[UnfinishedRestore]:
    """Return the databases of the connection's server whose restore has begun, is not complete, and does not run."""
    found = []
    for row in UNFINISHED.all(connection, {"application": APPLICATION_NAME}):
        mark = parse_mark(row.text)
        if mark is not None and mark.backup is not None:
            remove = f"flask ops backup discard {row.name}"
            found.append(UnfinishedRestore(database=row.name, backup=mark.backup, begun_at=mark.at, remove=remove))
    return found
