"""Poolers such as PgBouncer.

A pooler in transaction mode lends a connection of the server to a client for one transaction at a time. So a client has
no session in which it could hold a lock, a snapshot or a setting.
"""

from collections.abc import Iterator
from typing import Any

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.checks.connection import pooled
from ops.errors import UnknownState
from ops.levels import Level

IDENTITY = Statement(
    "ops.identity",
    """
SELECT (SELECT system_identifier FROM pg_control_system())::text AS cluster, current_database()::text AS database,
       (SELECT oid::int8 FROM pg_database WHERE datname = current_database()) AS oid,
       pg_is_in_recovery() AS standby, pg_postmaster_start_time() AS started_at""",
)


@check(
    "connection.same_database",
    "Do DATABASE_URL and DATABASE_DIRECT_URL name the same database?",
    severity=Level.CRITICAL,
)
def same_database(context: CheckContext) -> Iterator[Finding]:
    """Compare the databases of the two URLs: if they differ, locks do not protect the data."""
    if context.settings.database.direct_url is None:
        return
    direct = IDENTITY.one(context.connection, {})
    with pooled(context) as connection:
        via_pooler = IDENTITY.one(connection, {})
    if via_pooler is None or direct is None:
        raise UnknownState("The server does not report its identity.")
    evidence = {
        name: {"DATABASE_URL": pooled_value, "DATABASE_DIRECT_URL": direct_value}
        for name, pooled_value, direct_value in zip(via_pooler._fields, via_pooler, direct, strict=True)
        if pooled_value != direct_value
    }
    if evidence:
        yield Finding(
            level=Level.CRITICAL,
            message="DATABASE_URL and DATABASE_DIRECT_URL name different databases, so locks do not protect anything.",
            object="DATABASE_DIRECT_URL",
            evidence=evidence,
            remedy="Let DATABASE_DIRECT_URL name the database that DATABASE_URL's pooler connects to",
        )


@check(
    "connection.pooler",
    "Is there a connection to the database that no pooler shares?",
    severity=Level.WARNING,
)
def pooler(context: CheckContext) -> Iterator[Finding]:
    """Check that the direct connection, on which sessions depend, goes through no pooler."""
    driver: Any = context.connection.connection.dbapi_connection
    if driver.is_pooled:
        variable = "DATABASE_DIRECT_URL" if context.settings.database.direct_url else "DATABASE_URL"
        yield Finding(
            object=variable,
            level=Level.WARNING,
            message=f"{variable} goes through a pooler, so backups, index repairs and migrations are refused.",
            evidence={"variable": variable},
            remedy="Set DATABASE_DIRECT_URL to the PostgreSQL server itself, without the pooler",
        )
