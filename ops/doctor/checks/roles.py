"""The database roles of Parley: whether they can still log in in the near future."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.checks.connection import pooled
from ops.formatting import format_duration
from ops.levels import Level

SOON, VERY_SOON = timedelta(days=30), timedelta(days=7)

# `infinity` and no date are the same: no end.
LOGIN = Statement(
    "ops.role_login",
    """
SELECT quote_ident(rolname) AS role, rolcanlogin AS can_login,
       extract(epoch FROM rolvaliduntil - clock_timestamp())::float8 AS seconds, rolvaliduntil AS until
  FROM pg_roles WHERE rolname = session_user AND (rolvaliduntil IS NULL OR isfinite(rolvaliduntil))""",
)


@check("connection.role", "Can Parley's roles log in for another month?", severity=Level.CRITICAL)
def role_login(context: CheckContext) -> Iterator[Finding]:
    """Find roles whose password expires soon, and roles that may not log in any more.

    Open connections stay open, so the end shows only when the next one is opened. A connection without a password is
    not affected.
    """
    found = dict[str, Finding]()
    for variable, connection in _connections(context):
        for finding in _findings(variable, connection):
            found.setdefault(finding.object, finding)
    yield from found.values()


def _connections(context: CheckContext) -> Iterator[tuple[str, Connection]]:
    has_direct = context.settings.database.direct_url is not None
    yield ("DATABASE_DIRECT_URL" if has_direct else "DATABASE_URL"), context.connection
    if has_direct:
        with pooled(context) as connection:
            yield "DATABASE_URL", connection


def _findings(variable: str, connection: Connection) -> Iterator[Finding]:
    driver: Any = connection.connection.dbapi_connection
    row = LOGIN.one(connection, {})
    if row is None:
        return
    if not row.can_login:
        yield Finding(
            level=Level.CRITICAL,
            message=f"The role {row.role} of {variable} may not log in any more: new connections are refused.",
            object=row.role,
            evidence={"setting": variable},
            remedy="Let it log in again",
            sql=f"ALTER ROLE {row.role} LOGIN;",
        )
    if row.seconds is None or row.seconds > SOON.total_seconds() or not driver.info.used_password:
        return
    left = timedelta(seconds=row.seconds)
    when = f"expires in {format_duration(left)}" if left > timedelta(0) else "has expired"
    yield Finding(
        level=Level.CRITICAL if left <= VERY_SOON else Level.WARNING,
        message=f"The password of the role {row.role} of {variable} {when}: new connections are refused from then on.",
        object=row.role,
        evidence={"setting": variable, "valid_until": row.until},
        remedy="Does a policy require the date? If so, set a new password and a later date, and then the new password"
        f" in {variable}; if not, remove the date",
        sql=f"ALTER ROLE {row.role} VALID UNTIL 'infinity';",
    )
