"""The engines of web servers and workers: Flask-SQLAlchemy, pool metrics, statement tracing, and gevent."""

from collections.abc import Callable
from typing import Any

import gevent
import psycopg2
from flask import Flask
from gevent import monkey
from sqlalchemy import Engine, event

from app.config import Database
from app.database import MAIN, binds, engine_options
from app.db_dns import resolve_hosts
from app.dialect import register_dialect
from app.extensions import db
from app.pool import MeasuredPool
from app.tracing import trace


def instrumented_engines(flask_app: Flask, settings: Database) -> dict[str, Engine]:
    """Create the engines with a measured pool, traced statements and a connect timeout that works under gevent."""
    flask_app.config.update(
        SQLALCHEMY_DATABASE_URI=settings.url,
        SQLALCHEMY_ENGINE_OPTIONS={**engine_options(settings), "poolclass": MeasuredPool},
        SQLALCHEMY_BINDS=binds(settings),
    )
    register_dialect()
    db.init_app(flask_app)
    with flask_app.app_context():
        engines = {name or MAIN: engine for name, engine in db.engines.items()}
    for engine in engines.values():
        trace(engine)
        event.listen(engine, "do_connect", connect_timeout_listener(settings.connect_timeout))
    return engines


def connect_timeout_listener(seconds: float) -> Callable[..., Any]:
    """Return a `do_connect` listener that limits the time to connect under gevent.

    libpq's `connect_timeout` has no effect there, because gevent waits for the socket.
    """

    def do_connect(dialect: Any, record: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if not monkey.is_module_patched("socket"):
            return None  # SQLAlchemy then connects itself
        error = psycopg2.OperationalError(f"no connection to the database within {seconds:g} seconds")
        with gevent.Timeout(seconds, error):
            return dialect.connect(*args, **resolve_hosts(kwargs))

    return do_connect
