"""Connections: the limits, how many are in use, and by which clients."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.levels import Level

NEARLY_FULL, FULL = 0.80, 0.95  # share of the connections of ordinary roles
HEARTBEAT_CONNECTIONS = 1  # of each web worker, in addition to its pool
JOB_CONNECTIONS = 2  # of each job process: one for the job, one to renew its lease

# Reserved connections are excluded. A superuser may use them, and no limit of a role or a database applies to it. From
# PostgreSQL 16 on, members of pg_use_reserved_connections may use `reserved_connections`. -1 means no limit.
LIMITS = Statement(
    "ops.connection_limits",
    """
WITH clients AS (SELECT usesysid, datid FROM pg_stat_activity WHERE backend_type = 'client backend'),
me AS (
    SELECT r.oid, r.rolname, r.rolsuper, r.rolconnlimit,
           EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'pg_use_reserved_connections'
                                            AND pg_has_role(r.oid, g.oid, 'USAGE')) AS may_use_reserved
      FROM pg_roles r WHERE r.rolname = session_user)
SELECT 'the server' AS scope, current_setting('max_connections')::int
       - CASE WHEN me.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int
              + CASE WHEN me.may_use_reserved THEN 0
                     ELSE coalesce(current_setting('reserved_connections', true)::int, 0) END END AS maximum,
       (SELECT count(*)::int FROM clients) AS used FROM me
UNION ALL
SELECT 'role ' || rolname, rolconnlimit, (SELECT count(*)::int FROM clients WHERE usesysid = me.oid)
  FROM me WHERE rolconnlimit >= 0 AND NOT rolsuper
UNION ALL
SELECT 'database ' || datname, datconnlimit, (SELECT count(*)::int FROM clients WHERE datid = pg_database.oid)
  FROM pg_database, me WHERE datname = current_database() AND datconnlimit >= 0 AND NOT me.rolsuper""",
)
# Without pg_read_all_stats, the states of other roles' sessions are hidden.
CONNECTIONS = Statement(
    "ops.connections",
    """
SELECT coalesce(nullif(application_name, ''), 'without a name') AS application,
       coalesce(usename::text, '') AS role, coalesce(host(client_addr), 'this host') AS address,
       count(*)::int AS connections,
       count(*) FILTER (WHERE state = 'active')::int AS active,
       count(*) FILTER (WHERE state = 'idle')::int AS idle,
       count(*) FILTER (WHERE state LIKE 'idle in transaction%%')::int AS in_transaction,
       count(*) FILTER (WHERE wait_event_type = 'Lock')::int AS waiting,
       extract(epoch FROM max(clock_timestamp() - state_change) FILTER (WHERE state = 'idle'))::float8
           AS longest_idle_seconds
  FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
 GROUP BY 1, 2, 3 ORDER BY connections DESC, 1, 2, 3""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """The connections of one application name and role from one address."""

    application: Annotated[str, "Application name."]
    role: Annotated[str, "Role in the database."]
    address: Annotated[str, "Address of the client."]
    connections: Annotated[int, "Number of connections."]
    active: Annotated[int, "Connections with a running statement."]
    idle: Annotated[int, "Idle connections."]
    in_transaction: Annotated[int, "Connections that are idle in a transaction."]
    waiting: Annotated[int, "Connections that wait for a lock."]
    longest_idle_seconds: Annotated[float | None, "Longest time that one of them has been idle; null if none is."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimit:
    """A limit of connections."""

    scope: Annotated[str, "What the limit applies to: the server, a role or a database."]
    maximum: Annotated[int, "Largest number of connections."]
    used: Annotated[int, "Connections in use, this one included."]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """The limits and uses of connections."""

    required: Annotated[int, "Connections that the processes of one host open at most with these settings."]
    limits: Annotated[tuple[ConnectionLimit, ...], "The limits that apply."]
    clients: Annotated[tuple[Clients, ...], "Clients of the whole server, without this connection."]


def read_pool(context: CheckContext) -> PoolReport:
    """Read the clients and limits of the server."""
    return PoolReport(
        required=required_connections(context),
        limits=tuple(ConnectionLimit(**row._mapping) for row in LIMITS.all(context.connection, {})),
        clients=tuple(Clients(**row._mapping) for row in CONNECTIONS.all(context.connection, {})),
    )


def required_connections(context: CheckContext) -> int:
    """Return the maximum of connections that the web workers and job processes of one host open."""
    database, web = context.settings.database, context.settings.server.workers
    jobs = context.settings.jobs.worker_concurrency
    return web * (database.pool_size + database.max_overflow + HEARTBEAT_CONNECTIONS) + jobs * JOB_CONNECTIONS


@check("pool.bounds", "Does the server allow as many connections as the settings?", severity=Level.WARNING)
def bounds(context: CheckContext) -> Iterator[Finding]:
    """Compare the connections that the settings allow with each limit."""
    pool, settings = read_pool(context), context.settings
    for limit in pool.limits:
        if pool.required <= limit.maximum:
            continue
        for_web = limit.maximum - settings.jobs.worker_concurrency * JOB_CONNECTIONS
        per_worker = for_web // settings.server.workers - HEARTBEAT_CONNECTIONS
        message = (
            f"The processes of one host may open {pool.required} connections; {limit.scope} allows {limit.maximum}."
        )
        yield Finding(
            level=Level.WARNING,
            message=message,
            object=limit.scope,
            evidence={
                "web_workers": settings.server.workers,
                "pool_and_overflow": settings.database.pool_size + settings.database.max_overflow,
                "job_processes": settings.jobs.worker_concurrency,
                "required": pool.required,
                "allowed": limit.maximum,
            },
            remedy=f"Set DB_POOL_SIZE plus DB_MAX_OVERFLOW to {per_worker} or less, or raise the limit"
            if per_worker > 0
            else "Start fewer WEB_WORKERS, lower WORKER_CONCURRENCY, or raise the limit",
        )


@check("pool.in_use", "Are connections available?", severity=Level.CRITICAL)
def in_use(context: CheckContext) -> Iterator[Finding]:
    """Find limits that are nearly reached."""
    pool = read_pool(context)
    largest = pool.clients[0] if pool.clients else None
    for limit in pool.limits:
        if limit.used < NEARLY_FULL * limit.maximum:
            continue
        yield Finding(
            level=Level.CRITICAL if limit.used >= FULL * limit.maximum else Level.WARNING,
            message=f"{limit.used} of {limit.maximum} connections of {limit.scope} are in use"
            + (f", {largest.connections} of them by {largest.application}." if largest else "."),
            object=limit.scope,
            evidence={"used": limit.used, "allowed": limit.maximum},
            remedy="Which client has too many (flask ops pool), and can it close some?",
        )
