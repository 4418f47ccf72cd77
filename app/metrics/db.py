"""Metrics of database statements, by name, and of the connection pool."""

from typing import Literal

from app.metrics.registry import KnownChildren, LabelledChildren, counter, gauge, histogram

QueryOutcome = Literal["ok", "error", "timeout"]

UNNAMED = "other"
_MAX_SERIES = 500  # more than statement names times outcomes

_QUERY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_WAIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_USE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)

DB_QUERY_DURATION = histogram(
    "db_query_duration_seconds",
    "Time from sending a statement to receiving its result. Outcome timeout: statement timeout or lock timeout.",
    ("statement", "outcome"),
    buckets=_QUERY_BUCKETS,
)
DB_POOL_CONNECTIONS = gauge(
    "db_pool_connections",
    "Connections of a process by state: used (those being opened included) or idle.",
    ("state",),
    mode="liveall",
)
DB_POOL_MAX = gauge("db_pool_max", "Most connections that a process opens: pool size plus overflow.", mode="liveall")
DB_POOL_OVERFLOW = gauge(
    "db_pool_overflow", "Open connections above the pool size; they are closed after use.", mode="liveall"
)
DB_POOL_PENDING_REQUESTS = gauge("db_pool_pending_requests", "Requests waiting for a connection.", mode="livesum")
DB_POOL_WAIT = histogram(
    "db_pool_wait_seconds",
    "Time from requesting a connection to getting one or failing, opening one included.",
    buckets=_WAIT_BUCKETS,
)
DB_POOL_USE = histogram(
    "db_pool_use_seconds", "Time from getting a connection to returning it to the pool.", buckets=_USE_BUCKETS
)
DB_POOL_TIMEOUTS = counter("db_pool_timeouts_total", "Requests that got no connection within the pool timeout.")

# Exposed from the start, so that a sum is 0 and not absent before the first failure.
DB_QUERY_DURATION.series = [(UNNAMED, "error"), (UNNAMED, "timeout")]
_queries = LabelledChildren(DB_QUERY_DURATION, limit=_MAX_SERIES, overflow=(UNNAMED, "ok"))
_connections = KnownChildren(DB_POOL_CONNECTIONS, [("used",), ("idle",)])


def record_query(statement: str, outcome: QueryOutcome, seconds: float) -> None:
    """Record the end of a statement. `statement` is its name, or `UNNAMED`."""
    _queries[statement, outcome].observe(seconds)


def record_pool_max(connections: int) -> None:
    """Record the most connections that a new pool opens."""
    DB_POOL_MAX.metric.set(connections)


def record_pool_state(used: int, idle: int) -> None:
    """Record how many connections are used and idle now."""
    _connections[("used",)].set(used)
    _connections[("idle",)].set(idle)


def record_pool_overflow(connections: int) -> None:
    """Record the number of connections above the pool size.

    SQLAlchemy starts this number below zero, at minus the pool size.
    """
    DB_POOL_OVERFLOW.metric.set(max(0, connections))


def record_pool_waiting(change: Literal[1, -1]) -> None:
    """Record that a request starts (1) or stops (-1) waiting for a connection."""
    DB_POOL_PENDING_REQUESTS.metric.inc(change)


def record_pool_wait(seconds: float) -> None:
    """Record how long a request waited until it got a connection or failed."""
    DB_POOL_WAIT.metric.observe(seconds)


def record_pool_use(seconds: float) -> None:
    """Record how long a connection was in use."""
    DB_POOL_USE.metric.observe(seconds)


def record_pool_timeout() -> None:
    """Record that a request got no connection within the pool timeout."""
    DB_POOL_TIMEOUTS.metric.inc()
