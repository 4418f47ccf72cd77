"""PostgreSQL's extensions that checks use."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from app.database import sqlstate
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.errors import UnknownState

NOT_LOADED = "55000"  # SQLSTATE object_not_in_prerequisite_state

INSTALLED = Statement(
    "ops.extension",
    """
SELECT e.extversion AS version, quote_ident(n.nspname) AS schema,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = %(name)s) AS available
  FROM (SELECT 1) AS one LEFT JOIN pg_extension e ON e.extname = %(name)s
  LEFT JOIN pg_namespace n ON n.oid = e.extnamespace""",
)


def schema_of(context: CheckContext, extension: str) -> str | None:
    """Return the schema of `extension`, quoted for SQL; None if it is not installed in this database."""
    row = INSTALLED.one(context.connection, {"name": extension})
    return None if row is None or row.version is None else str(row.schema)


def require_extension(context: CheckContext, extension: str, reason: str) -> str:
    """Return the schema of `extension`. Raises `UnknownState`, with the `reason` for needing it, if it is missing."""
    row = INSTALLED.one(context.connection, {"name": extension})
    if row is not None and row.version is not None:
        return str(row.schema)
    if row is not None and row.available:
        raise UnknownState(f"{reason}, and the extension {extension} is not installed.", remedy=install(extension))
    raise UnknownState(
        f"{reason}, and this server does not have the extension {extension}.",
        remedy="Install PostgreSQL's contrib package on the server",
    )


@contextmanager
def statements_loaded() -> Iterator[None]:
    """Raise `UnknownState` if a read of pg_stat_statements fails because the server does not load the extension."""
    try:
        yield
    except DBAPIError as error:
        if sqlstate(error) != NOT_LOADED:
            raise
        raise UnknownState(
            "pg_stat_statements is installed, but the server does not load it.",
            remedy="Set shared_preload_libraries = 'pg_stat_statements' and restart PostgreSQL",
        ) from error


def install(extension: str) -> str:
    """Return the remedy that installs `extension`."""
    return f"As a superuser, in this database: CREATE EXTENSION {extension};"
