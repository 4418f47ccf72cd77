"""How connections are made: the pool's bounds, the timeouts every connection carries, JSON through orjson."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import orjson
import psycopg2
import psycopg2.extensions
import psycopg2.extras
from gevent import monkey
from sqlalchemy import Connection, NullPool, QueuePool
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError

from app.config import Database
from app.extensions import db
from app.host_names import looked_up
from app.pool import MeasuredPool

SAID = 500  # characters of what the driver says

# SQLSTATEs that mean "not now", so the caller may try again: nothing was saved (PostgreSQL manual, appendix A).
NOT_NOW = (
    "08",  # connection exception
    "53",  # insufficient resources: disk full, too many connections
    "57",  # operator intervention: shutdown, statement timeout
    "58",  # system error: the disk does not read or write
    "55P03",  # lock not available
    "40001",  # serialization failure
    "40P01",  # deadlock
    "25006",  # read-only after a failover
    "25P03",  # idle in transaction for too long
)

psycopg2.extras.register_uuid()  # type: ignore[no-untyped-call]  # the stubs leave it untyped


class Dialect(PGDialect_psycopg2):
    """SQLAlchemy's psycopg2 dialect, without the `SET` that it sends on the way back from AUTOCOMMIT.

    Switching through `autocommit` alone is the driver's own affair and costs no round trip; through
    `set_isolation_level` it costs one for each checkout (seen in pg_stat_statements).
    """

    supports_statement_cache = True

    def set_isolation_level(self, dbapi_connection: Any, level: IsolationLevel) -> None:
        if level == "AUTOCOMMIT":
            # Asking for the present level, as Alembic does, has begun a transaction; `set_isolation_level` ends it too.
            if dbapi_connection.status != psycopg2.extensions.STATUS_READY:
                dbapi_connection.rollback()
            dbapi_connection.autocommit = True
        else:
            super().set_isolation_level(dbapi_connection, level)  # type: ignore[no-untyped-call]  # SQLAlchemy's own gap

    def reset_isolation_level(self, dbapi_connection: Any) -> None:
        if dbapi_connection.isolation_level is None:  # never changed from the server's default
            dbapi_connection.autocommit = False
        else:
            super().reset_isolation_level(dbapi_connection)  # type: ignore[no-untyped-call]  # likewise


# Whoever makes an engine in this process gets it: pool, migrations and commands are to behave alike.
registry.register("postgresql.psycopg2", __name__, "Dialect")


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


def engine_options(settings: Database) -> dict[str, Any]:
    """Keyword arguments of `create_engine`.

    No pre-ping: it would cost the turn a round trip, and a restarted server costs each process one failed request at
    most, because SQLAlchemy then drops the whole pool. Parley's transactions are explicit, so nothing is left open.
    """
    timeouts = {
        "statement_timeout": settings.statement_timeout_ms,
        "lock_timeout": settings.lock_timeout_ms,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout_ms,
    }
    return {
        "poolclass": MeasuredPool,
        "pool_size": settings.pool_size,
        "max_overflow": settings.max_overflow,
        "pool_timeout": settings.pool_timeout,
        "pool_recycle": settings.pool_recycle,
        "json_serializer": _dumps,
        "json_deserializer": orjson.loads,
        "hide_parameters": True,  # what people write does not belong in a traceback
        "connect_args": {
            "application_name": "parley",
            "connect_timeout": settings.connect_timeout,
            "keepalives": 1,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            "options": " ".join(f"-c {name}={milliseconds}" for name, milliseconds in timeouts.items()),
        },
    }


def binds(settings: Database) -> dict[str, dict[str, Any]]:
    """The databases beside the main one: `direct` is the same past a pooler, without a pool of ours either.

    `heartbeats` is the same with a single connection, so that a pool which is used up makes no live turn look dead.
    """
    pooling = {"poolclass", "pool_size", "max_overflow", "pool_timeout", "pool_recycle"}
    options = {name: value for name, value in engine_options(settings).items() if name not in pooling}
    one = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_recycle": settings.pool_recycle}
    found = {"heartbeats": {"url": settings.url, **one, **options}}
    if settings.direct_url is not None:
        found["direct"] = {"url": settings.direct_url, "poolclass": NullPool, **options}
    return found


@contextmanager
def direct_connection() -> Iterator[Connection]:
    """A connection of one's own, in AUTOCOMMIT, past a pooler if there is one: for advisory locks and the like.

    It is closed at the end and never used by others, because it may still hold what belongs to a session.
    """
    engine = db.engines.get("direct", db.engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()
        yield connection


def is_passing(error: DBAPIError, *, states: tuple[str, ...] = NOT_NOW) -> bool:
    """Whether the same statement may succeed a moment later: the connection broke, or the server says "not now"."""
    state: str | None = getattr(error.orig, "pgcode", None)
    return error.connection_invalidated or state is None or state.startswith(states)


def said(error: Exception) -> str:
    """What the driver says went wrong, as one line. It may name hosts, accounts and files, and holds no password."""
    return " ".join(str(getattr(error, "orig", None) or error).split())[:SAID]


def connect_in_time(seconds: float) -> Callable[..., Any]:
    """A `do_connect` listener: under gevent libpq's own `connect_timeout` does nothing, so a timer of gevent's does."""

    def do_connect(dialect: Any, record: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if not monkey.is_module_patched("socket"):
            return None  # SQLAlchemy goes on and connects by itself
        error = psycopg2.OperationalError(f"no connection to the database within {seconds:g} seconds")
        with gevent.Timeout(seconds, error):
            return dialect.connect(*args, **looked_up(kwargs))

    return do_connect
