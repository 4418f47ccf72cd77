"""Connections: how many there may be, how many there are, and whose."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

NEARLY, FULL = 0.80, 0.95  # of the connections that an ordinary account can have
HEARTBEATS = 1  # of a web worker, beside its pool: for saying that its turns live
JOB_CONNECTIONS = 2  # of a process that runs jobs: one to work with, one that holds the job's lock

# Beyond these only superusers, or members of a role, get one. Without a limit an account or a database has -1.
LIMITS = Statement(
    "ops.connection_limits",
    """
WITH clients AS (SELECT usesysid, datid FROM pg_stat_activity WHERE backend_type = 'client backend')
SELECT 'the server' AS of, current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true)::int, 0) AS most,
       (SELECT count(*)::int FROM clients) AS used
UNION ALL
SELECT 'account ' || rolname, rolconnlimit, (SELECT count(*)::int FROM clients WHERE usesysid = pg_roles.oid)
  FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0
UNION ALL
SELECT 'database ' || datname, datconnlimit, (SELECT count(*)::int FROM clients WHERE datid = pg_database.oid)
  FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0""",
)
# States of other accounts' sessions are hidden from an account without pg_read_all_stats.
CONNECTIONS = Statement(
    "ops.connections",
    """
SELECT coalesce(nullif(application_name, ''), 'without a name') AS application,
       coalesce(usename::text, '') AS account, coalesce(host(client_addr), 'this host') AS address,
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
    """The connections of one application, as it calls itself, and account, from one address."""

    application: str
    account: str
    address: str
    connections: int
    active: int
    idle: int
    in_transaction: int
    waiting: int
    longest_idle_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """So many connections may ordinary accounts have at once `of` something, and so many there are, this one too."""

    of: str
    most: int
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """`wanted` is how many the processes of one host with these settings may come to open. `clients` are those of the
    whole server, without the one that asks."""

    wanted: int
    limits: tuple[Limit, ...]
    clients: tuple[Clients, ...]


def read_pool(probe: Probe) -> PoolReport:
    """Who is connected, and how many may be."""
    return PoolReport(
        wanted=wanted(probe),
        limits=tuple(Limit(**row._mapping) for row in LIMITS.all(probe.connection, {})),
        clients=tuple(Clients(**row._mapping) for row in CONNECTIONS.all(probe.connection, {})),
    )


def wanted(probe: Probe) -> int:
    """The most connections that the web workers and the job processes of one host open."""
    database, web = probe.settings.database, probe.settings.server.workers
    jobs = probe.settings.jobs.worker_concurrency
    return web * (database.pool_size + database.max_overflow + HEARTBEATS) + jobs * JOB_CONNECTIONS


def bounds(probe: Probe) -> Iterator[Finding]:
    """A finding if the settings allow more connections than the server does."""
    pool, settings = read_pool(probe), probe.settings
    for limit in pool.limits:
        if pool.wanted <= limit.most:
            continue
        left = limit.most - settings.jobs.worker_concurrency * JOB_CONNECTIONS
        each = max(1, left // settings.server.workers - HEARTBEATS)
        yield Finding(
            level=Level.WARNING,
            what=f"The processes of one host may open {pool.wanted} connections; {limit.of} allows {limit.most}.",
            evidence={
                "web_workers": settings.server.workers,
                "pool_and_overflow": settings.database.pool_size + settings.database.max_overflow,
                "job_processes": settings.jobs.worker_concurrency,
                "wanted": pool.wanted,
                "allowed": limit.most,
            },
            remedy=f"Keep DB_POOL_SIZE and DB_MAX_OVERFLOW together at {each} or less, or raise the limit",
        )


def in_use(probe: Probe) -> Iterator[Finding]:
    """A finding for each limit that is nearly reached."""
    pool = read_pool(probe)
    most = pool.clients[0] if pool.clients else None
    for limit in pool.limits:
        if limit.used < NEARLY * limit.most:
            continue
        yield Finding(
            level=Level.CRITICAL if limit.used >= FULL * limit.most else Level.WARNING,
            what=f"{limit.used} of {limit.most} connections of {limit.of} are taken"
            + (f", {most.connections} of them by {most.application}." if most else "."),
            evidence={"used": limit.used, "allowed": limit.most},
            remedy="flask ops pool",
        )
