"""What the database does, as seen from here: statements by their names, and the pool of connections."""

from typing import Literal

from app.metrics.registry import Children, counter, gauge, histogram

QueryOutcome = Literal["ok", "error", "timeout"]

UNNAMED = "other"
_STATEMENTS = 500  # names, all of them from our own code, times outcomes

_QUERY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_WAIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_USE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)

_QUERY = histogram(
    "db_query_duration_seconds",
    "Time from sending a statement to having its result. A timeout is the statement's own or that of a lock.",
    ("statement", "outcome"),
    buckets=_QUERY_BUCKETS,
)
_CONNECTIONS = gauge(
    "db_pool_connections",
    "Connections that a process holds: used ones, with those being opened, and idle ones.",
    ("state",),
    across="liveall",
)
_MAX = gauge("db_pool_max", "Connections that a process may open: pool size and overflow.", across="liveall")
_OVERFLOW = gauge("db_pool_overflow", "Connections open beyond the pool's size; closed after use.", across="liveall")
_PENDING = gauge("db_pool_pending_requests", "Requests that wait for a connection.", across="livesum")
_WAIT = histogram(
    "db_pool_wait_seconds",
    "Time from asking for a connection to getting one, or failing; opening one included.",
    buckets=_WAIT_BUCKETS,
)
_USE = histogram("db_pool_use_seconds", "Time from getting a connection to giving it back.", buckets=_USE_BUCKETS)
_TIMEOUTS = counter("db_pool_timeouts_total", "Requests that got no connection within the pool's timeout.")

_queries = Children(_QUERY, limit=_STATEMENTS, overflow=(UNNAMED, "ok"))
_used = _CONNECTIONS.labels("used")
_idle = _CONNECTIONS.labels("idle")


def record_query(statement: str, outcome: QueryOutcome, seconds: float) -> None:
    """A statement has ended. `statement` is its name; `UNNAMED` for one that has none."""
    _queries[statement, outcome].observe(seconds)


def record_pool_max(connections: int) -> None:
    """A pool has been made that may have so many connections open."""
    _MAX.set(connections)


def record_pool_state(used: int, idle: int) -> None:
    """Connections have been taken or given back; how many of either kind there are now."""
    _used.set(used)
    _idle.set(idle)


def record_pool_overflow(connections: int) -> None:
    """The number of connections beyond the pool's size has changed; SQLAlchemy's own starts below zero."""
    _OVERFLOW.set(max(0, connections))


def record_pool_waiting(change: Literal[1, -1]) -> None:
    """A request begins or ends to wait for a connection."""
    _PENDING.inc(change)


def record_pool_wait(seconds: float) -> None:
    """A request has got its connection, or has been refused one, after so long."""
    _WAIT.observe(seconds)


def record_pool_use(seconds: float) -> None:
    """A connection has been given back after so long."""
    _USE.observe(seconds)


def record_pool_timeout() -> None:
    """A request got no connection in time."""
    _TIMEOUTS.inc()
