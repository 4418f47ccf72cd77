"""The connection to the database: reachable, fast, writable, and a supported version."""

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import SQLAlchemyError

from app.container import current_settings
from app.database import autocommit, current_engine, driver_message
from app.errors import ParleyError
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.embedded import URL_WHEN_STARTED, embedded_port
from ops.errors import UnknownState
from ops.levels import Level

ROUND_TRIPS = 7
SLOW, VERY_SLOW = timedelta(milliseconds=10), timedelta(milliseconds=100)  # a turn needs two round trips, a list one
MIN_VERSION = 15
SKEWED, VERY_SKEWED = timedelta(seconds=2), timedelta(seconds=10)  # from 10 s on, new tokens are rejected

PING = Statement("ops.ping", "SELECT 1 AS one")
CLOCK = Statement("ops.clock", "SELECT extract(epoch FROM clock_timestamp())::float8 AS seconds")
# `reset_val` is the value at the start of a session, as opposed to what this session has set.
WRITABLE = Statement(
    "ops.writable",
    """
SELECT pg_is_in_recovery() AS recovering,
       (SELECT reset_val = 'on' FROM pg_settings WHERE name = 'default_transaction_read_only') AS read_only""",
)

# Parts of libpq's messages, and the remedy for each.
_REMEDIES = (
    ("password authentication failed", "Correct the role or password in {variable}"),
    ("does not exist", "Create it, or correct {variable}: CREATE DATABASE ...; then `flask db upgrade`"),
    ("too many clients", "End sessions that are not needed, or raise max_connections"),
    ("remaining connection slots", "End sessions that are not needed, or raise max_connections"),
    ("starting up", "Wait until it has recovered: its log shows the progress"),
    ("no encryption", "Add ?sslmode=require to {variable}"),
    ("certificate", "Correct sslmode or sslrootcert in {variable}"),
    (
        "unsupported startup parameter",
        "Let the pooler pass or ignore `options`: ignore_startup_parameters in pgbouncer.ini",
    ),
)


@contextmanager
def pooled(context: CheckContext) -> Iterator[Connection]:
    """Open a connection by DATABASE_URL, as the web servers do, in AUTOCOMMIT.

    Raises `UnknownState` if that fails.
    """
    with _open_pooled(context) as connection:
        if connection is None:
            raise UnknownState(
                f"DATABASE_URL cannot be reached: {(context.pooled_connection_error or '').rstrip('.?')}.",
                remedy="flask ops doctor --only connection",
            )
        yield connection


@contextmanager
def _open_pooled(context: CheckContext) -> Iterator[Connection | None]:
    """Open a connection by DATABASE_URL. Yields None and keeps the error in `context` if that fails."""
    if context.open_connection is None and context.settings.database.direct_url is None:
        context.pooled_connection_error = context.connection_error
    if context.pooled_connection_error is not None:
        yield None
        return
    connection: Connection | None = None
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(autocommit(current_engine()))
            PING.one(connection, {})
        except (SQLAlchemyError, ParleyError) as error:
            context.pooled_connection_error, connection = driver_message(error), None
        yield connection


@check("connection.reachable", "Is the database reachable?", severity=Level.CRITICAL)
def reachable(context: CheckContext) -> Iterator[Finding]:
    """Check both URLs of the database."""
    direct = context.settings.database.direct_url
    if context.open_connection is None:
        yield _unreachable("DATABASE_DIRECT_URL" if direct else "DATABASE_URL", direct, context.connection_error)
    if direct is not None:
        with _open_pooled(context):
            pass
        if context.pooled_connection_error is not None:
            yield _unreachable("DATABASE_URL", None, context.pooled_connection_error)


@check("connection.version", "Is PostgreSQL new enough?", severity=Level.CRITICAL)
def version(context: CheckContext) -> Iterator[Finding]:
    """Compare the server's version with the oldest supported one."""
    if context.version < MIN_VERSION:
        yield Finding(
            object="version",
            level=Level.CRITICAL,
            message=f"The server is PostgreSQL {context.version}; Parley needs {MIN_VERSION} or newer.",
            evidence={"version": context.version, "needed": MIN_VERSION},
            remedy="Upgrade the server: pg_upgrade, or dump and restore",
        )


@check("connection.writable", "Does the database accept writes?", severity=Level.CRITICAL)
def writable(context: CheckContext) -> Iterator[Finding]:
    """Check that the database is neither a standby nor read-only by default."""
    row = WRITABLE.one(context.connection, {})
    if row is None or not (row.recovering or row.read_only):
        return
    reason = "is a standby" if row.recovering else "is read-only (default_transaction_read_only)"
    yield Finding(
        object="database",
        level=Level.CRITICAL,
        message=f"The database {reason}, so no turn can start.",
        evidence={"in_recovery": row.recovering, "read_only": row.read_only},
        remedy="Point DATABASE_URL to the primary"
        if row.recovering
        else "Where is it set, and was that on purpose? SELECT * FROM pg_db_role_setting shows roles and databases",
    )


@check("connection.latency", "Is the latency to the database low?", severity=Level.CRITICAL)
def latency(context: CheckContext) -> Iterator[Finding]:
    """Compare the median of a few round trips with `SLOW`."""
    seconds = []
    with context.transaction():  # in which a statement is one round trip
        for _ in range(ROUND_TRIPS):
            started = time.perf_counter()
            PING.one(context.connection, {})
            seconds.append(time.perf_counter() - started)
    median = timedelta(seconds=statistics.median(seconds))
    if median >= SLOW:
        yield Finding(
            object="latency",
            level=Level.CRITICAL if median >= VERY_SLOW else Level.WARNING,
            message=f"A round trip to the database takes {median / timedelta(milliseconds=1):.1f} ms; a turn needs 2.",
            evidence={
                "median": median,
                "best": timedelta(seconds=min(seconds)),
                "worst": timedelta(seconds=max(seconds)),
            },
            remedy="Is the database far away, or busy (flask ops slow, flask ops locks)?",
        )


@check("connection.clock", "Are the clocks of this host and the database in sync?", severity=Level.CRITICAL)
def clock(context: CheckContext) -> Iterator[Finding]:
    """Compare the clocks of this host and the database, with the round trip as uncertainty."""
    best = (float("inf"), 0.0)  # of the fastest round trip, which is the most accurate
    with context.transaction():
        for _ in range(ROUND_TRIPS):
            before = time.time()
            row = CLOCK.one(context.connection, {})
            after = time.time()
            if row is not None:
                best = min(best, (after - before, row.seconds - (before + after) / 2))
    round_trip, ahead = best
    certain = timedelta(seconds=max(0.0, abs(ahead) - round_trip / 2))
    if certain >= SKEWED:
        yield Finding(
            object="clock",
            level=Level.CRITICAL if certain >= VERY_SKEWED else Level.WARNING,
            message=f"The database's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this host's.",
            evidence={"ahead_seconds": round(ahead, 3), "round_trip_seconds": round(round_trip, 6)},
            remedy="Which of the two is wrong? Synchronise both with NTP; timedatectl status shows whether it works",
        )


def _unreachable(variable: str, url: str | None, error: str) -> Finding:
    address = make_url(url or str(current_engine().url.render_as_string()))
    is_embedded = address == make_url(URL_WHEN_STARTED)
    port = embedded_port(current_settings().server.home) if is_embedded else address.port
    remedy = next(
        (text for part, text in _REMEDIES if part in error), "Does the server run there, and what is in its log?"
    )
    evidence: dict[str, Any] = {"host": address.host, "port": port, "database": address.database}
    return Finding(
        level=Level.CRITICAL,
        object=variable,
        message=f"The database cannot be reached by {variable}: {error.rstrip('.?')}.",
        evidence=evidence,
        remedy=remedy.format(variable=variable),
    )
