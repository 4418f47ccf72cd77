"""Which of PostgreSQL's extensions a check may use."""

from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.findings import CannotJudge

INSTALLED = Statement(
    "ops.extension",
    """
SELECT e.extversion AS version, quote_ident(n.nspname) AS schema,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = %(name)s) AS available
  FROM (SELECT 1) AS one LEFT JOIN pg_extension e ON e.extname = %(name)s
  LEFT JOIN pg_namespace n ON n.oid = e.extnamespace""",
)


def schema_of(probe: Probe, extension: str) -> str | None:
    """The schema that holds it, as SQL takes it; None where it is not installed in this database."""
    row = INSTALLED.one(probe.connection, {"name": extension})
    return None if row is None or row.version is None else str(row.schema)


def require(probe: Probe, extension: str, why: str) -> str:
    """The schema that holds `extension`. Raises `CannotJudge`, saying `why` it is wanted, where it is not installed."""
    row = INSTALLED.one(probe.connection, {"name": extension})
    if row is not None and row.version is not None:
        return str(row.schema)
    if row is not None and row.available:
        raise CannotJudge(f"{why}, and the extension {extension} is not installed.", remedy=install(extension))
    raise CannotJudge(
        f"{why}, and this server does not have the extension {extension}.",
        remedy="Install PostgreSQL's contrib package on the server",
    )


def install(extension: str) -> str:
    return f"As a superuser, in this database: CREATE EXTENSION {extension};"
