"""Poolers such as PgBouncer: what may go through one, and what must not.

Advisory locks, exported snapshots and settings belong to a session of the server. Behind a pooler in transaction mode a
client has none: its next statement may run on a connection that was somebody else's a moment ago.
"""

import enum
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection

from app.database import direct_connection
from app.repositories.statement import Statement
from ops.checks.connection import pooled
from ops.checks.probe import Probe
from ops.findings import CannotJudge, Finding
from ops.levels import Level

BACKEND = Statement("ops.backend", "SELECT pg_backend_pid() AS pid")
IDENTITY = Statement(
    "ops.identity",
    """
SELECT (SELECT system_identifier FROM pg_control_system())::text AS cluster, current_database()::text AS database,
       (SELECT oid::int8 FROM pg_database WHERE datname = current_database()) AS oid,
       pg_is_in_recovery() AS standby, pg_postmaster_start_time() AS started_at""",
)
TIMEOUTS = Statement(
    "ops.timeouts",
    """
SELECT name, setting::int8 AS milliseconds FROM pg_settings
 WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout') ORDER BY name""",
)
TRIES = 5  # a pooler may also take turns
PAST_IT = "Set DATABASE_DIRECT_URL to the PostgreSQL server itself, past the pooler"


class Pooling(enum.StrEnum):
    """What stands between a client and the server."""

    NONE = "none"
    SESSION = "session"  # a client keeps its server connection for as long as it is there
    TRANSACTION = "transaction"  # only until its transaction ends


def same_database(probe: Probe) -> Iterator[Finding]:
    """A finding if the two URLs lead to different databases: then locks are taken where nobody works."""
    if probe.settings.database.direct_url is None:
        return
    there = IDENTITY.one(probe.connection, {})
    with pooled(probe) as connection:
        here = IDENTITY.one(connection, {})
    if here is None or there is None:
        raise CannotJudge("The server does not say which one it is.")
    evidence = {
        name: {"DATABASE_URL": mine, "DATABASE_DIRECT_URL": other}
        for name, mine, other in zip(here._fields, here, there, strict=True)
        if mine != other
    }
    if evidence:
        yield Finding(
            level=Level.CRITICAL,
            what="DATABASE_URL and DATABASE_DIRECT_URL do not lead to the same database, so no lock holds.",
            evidence=evidence,
            remedy="Let DATABASE_DIRECT_URL name the same database on the server that DATABASE_URL's pooler leads to",
        )


def pooler(probe: Probe) -> Iterator[Finding]:
    """A finding if what needs a session of its own goes through a pooler that gives it none."""
    _ = probe.connection  # where there is none, another try would wait for the whole timeout again
    if (direct := pooling(direct_connection)) is Pooling.TRANSACTION:
        variable = "DATABASE_DIRECT_URL" if probe.settings.database.direct_url else "DATABASE_URL"
        yield Finding(
            level=Level.CRITICAL,
            what=f"{variable} leads through a pooler in transaction mode, where no lock holds: a job may run twice.",
            evidence={"mode": direct},
            remedy=PAST_IT,
        )


def timeouts(probe: Probe) -> Iterator[Finding]:
    """A finding if connections do not have the timeouts of the settings: a pooler may drop what a client asks for."""
    settings = probe.settings.database
    wanted = {
        "statement_timeout": settings.statement_timeout_ms,
        "lock_timeout": settings.lock_timeout_ms,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout_ms,
    }
    with pooled(probe) as connection:
        found = {row.name: row.milliseconds for row in TIMEOUTS.all(connection, {})}
    if found != wanted:
        sql = "; ".join(f"ALTER ROLE CURRENT_USER SET {name} = {span}" for name, span in wanted.items())
        yield Finding(
            level=Level.WARNING,
            what="The web servers' connections do not have the timeouts of the settings, so a statement may hang.",
            evidence={name: {"wanted_ms": wanted[name], "is_ms": found.get(name)} for name in wanted},
            remedy="Give them to the account, because the pooler drops them",
            sql=sql,
        )


def pooling(connect: Callable[[], AbstractContextManager[Connection]]) -> Pooling:
    """What stands on the way of `connect`, which is called twice.

    A pooler tells a client of a process that is not the server's. In transaction mode it lends the server connection of
    a client that is doing nothing to the next one.
    """
    with connect() as first:
        if _told(first) == (held := _backend(first)):
            return Pooling.NONE
        if not first.connection.is_detached:
            first.detach()  # a pool of one connection has room for the second
        with connect() as second:
            second.exec_driver_sql("BEGIN")  # so that what it is lent now is not lent to the first one meanwhile
            lent = _backend(second)
            seen = {_backend(first) for _ in range(TRIES)}
            second.exec_driver_sql("ROLLBACK")
    return Pooling.TRANSACTION if lent == held or seen != {held} else Pooling.SESSION


def _told(connection: Connection) -> int:
    """The server's process as it was announced when the connection was made."""
    driver: Any = connection.connection.dbapi_connection
    announced: int = driver.info.backend_pid
    return announced


def _backend(connection: Connection) -> int:
    row = BACKEND.one(connection, {})
    return int(row.pid) if row is not None else 0
