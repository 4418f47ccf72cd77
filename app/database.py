"""Database engines: pool size, session settings and JSON codec of every connection, and driver errors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import orjson
from flask import Flask, current_app
from sqlalchemy import Connection, Engine, NullPool, QueuePool, create_engine
from sqlalchemy.exc import DBAPIError

from app.config import Database
from app.dead_connections import replace_if_dead
from app.dialect import register_dialect
from app.errors import OwnSessionRequired
from app.session_settings import session_settings

MAX_DRIVER_MESSAGE = 500  # characters
MAIN = "main"  # the engine with the connection pool
_ENGINES = "parley.engines"  # in `Flask.extensions`

# Classes and codes of transient errors: nothing was saved, and a retry may succeed (PostgreSQL manual, appendix A).
TRANSIENT_SQLSTATES = (
    "08",  # connection exception
    "53",  # insufficient resources: disk full, too many connections
    "57",  # operator intervention: shutdown, statement timeout
    "58",  # system error: I/O error
    "55P03",  # lock not available
    "40001",  # serialization failure
    "40P01",  # deadlock
    "25006",  # read-only after a failover
    "25P03",  # idle_in_transaction_session_timeout
)


def make_engine(url: str, **options: Any) -> Engine:
    """Create an engine outside the application's pool, with the same dialect."""
    register_dialect()
    return create_engine(url, **options)


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


def engine_options(settings: Database) -> dict[str, Any]:
    """Return the keyword arguments of `create_engine`.

    There is no pre-ping, which costs each turn a round trip: the dialect replaces a dead connection before a statement.
    """
    return {
        "pool_size": settings.pool_size,
        "max_overflow": settings.max_overflow,
        "pool_timeout": settings.pool_timeout,
        "pool_recycle": settings.pool_recycle,
        "json_serializer": _dumps,
        "json_deserializer": orjson.loads,
        "hide_parameters": True,  # keeps users' messages out of tracebacks
        "connect_args": {
            "application_name": "parley",
            "connect_timeout": settings.connect_timeout,
            "keepalives": 1,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            "session_settings": session_settings(settings),
        },
    }


def binds(settings: Database) -> dict[str, dict[str, Any]]:
    """Return the additional engines to the same database, by name (Flask-SQLAlchemy's SQLALCHEMY_BINDS).

    `heartbeats` has one connection of its own, so that an exhausted pool does not make running turns look stale.
    `direct`, present if DATABASE_DIRECT_URL is set, bypasses the pooler and has no pool.
    """
    pooling = {"pool_size", "max_overflow", "pool_timeout", "pool_recycle"}
    options = {name: value for name, value in engine_options(settings).items() if name not in pooling}
    single = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_recycle": settings.pool_recycle}
    engines = {"heartbeats": {"url": settings.url, **single, **options}}
    if settings.direct_url is not None:
        engines["direct"] = {"url": settings.direct_url, "poolclass": NullPool, **options}
    return engines


def plain_engines(flask_app: Flask, settings: Database) -> dict[str, Engine]:
    """Create the engines of a command: without metrics and without gevent."""
    main = make_engine(str(settings.url), **engine_options(settings))
    return {MAIN: main, **{name: make_engine(**options) for name, options in binds(settings).items()}}


def init_app(flask_app: Flask, engines: Mapping[str, Engine]) -> None:
    """Store the engines that `current_engine` and `current_engines` return."""
    flask_app.extensions[_ENGINES] = engines


def current_engines() -> Mapping[str, Engine]:
    """Return the engines of the current application: `main`, `heartbeats` and, if configured, `direct`."""
    return cast(Mapping[str, Engine], current_app.extensions[_ENGINES])


def current_engine() -> Engine:
    """Return the main engine of the current application."""
    return current_engines()[MAIN]


def autocommit_engine(engine: Engine) -> Engine:
    """Return `engine` with connections in AUTOCOMMIT; both share one pool."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def autocommit(engine: Engine | None = None) -> Connection:
    """Open a connection in AUTOCOMMIT: each statement is one transaction, and neither BEGIN nor COMMIT is sent.

    `engine` defaults to the application's.
    """
    return (engine or current_engine()).connect().execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def direct_connection() -> Iterator[Connection]:
    """Open a connection in AUTOCOMMIT, by DATABASE_DIRECT_URL if that is set; it is closed on exit.

    Without that URL it may go through a pooler, so nothing may be set in its session.
    """
    with autocommit(current_engines().get("direct")) as connection:
        replace_if_dead(connection.connection)
        connection.detach()
        yield connection


@contextmanager
def own_session() -> Iterator[Connection]:
    """Open a direct connection whose session belongs to this process alone, for an advisory lock or a snapshot.

    Raises `OwnSessionRequired` if it goes through a pooler.
    """
    with direct_connection() as connection:
        require_own_session(connection)
        yield connection


def require_own_session(connection: Connection) -> None:
    """Raise `OwnSessionRequired` if `connection` goes through a pooler."""
    driver: Any = connection.connection.dbapi_connection
    if driver.is_pooled:
        raise OwnSessionRequired


def sqlstate(error: Exception) -> str | None:
    """Return the SQLSTATE of a driver's error, wrapped by SQLAlchemy or not; None if PostgreSQL did not send one."""
    return getattr(getattr(error, "orig", error), "pgcode", None)


def violated_constraint(error: Exception) -> str | None:
    """Return the name of the constraint or unique index that an `IntegrityError` names, if any."""
    return getattr(getattr(getattr(error, "orig", error), "diag", None), "constraint_name", None)


def is_transient(error: DBAPIError, *, states: tuple[str, ...] = TRANSIENT_SQLSTATES) -> bool:
    """Return whether a retry may succeed: the connection broke, or `states` has a prefix of the SQLSTATE."""
    state = sqlstate(error)
    return error.connection_invalidated or state is None or state.startswith(states)


def driver_message(error: Exception) -> str:
    """Return the driver's error message as one line.

    It can contain host names, database users and paths, but no password. Longer than MAX_DRIVER_MESSAGE, it is cut.
    """
    return " ".join(str(getattr(error, "orig", None) or error).split())[:MAX_DRIVER_MESSAGE]
