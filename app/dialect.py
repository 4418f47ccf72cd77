"""SQLAlchemy's dialect for Parley, and how it opens a connection.

The session settings are sent as startup options; a pooler that refuses options is connected to without them. A pooler
is recognised by the process id that it announces, which is not the server's.
"""

import logging
import re
from functools import cache
from typing import Any

import psycopg2
import psycopg2.extensions
from sqlalchemy import Connection
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2, PGExecutionContext_psycopg2
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.util import immutabledict

from app.dead_connections import replace_if_dead
from app.session_settings import OLDEST_VERSION, SessionSetting, startup_options

# What PgBouncer, and RDS Proxy, answer to startup options.
_REFUSES_OPTIONS = re.compile("unsupported startup parameter|command-line options", re.IGNORECASE)

_log = logging.getLogger("parley.database")


class ServerConnection(psycopg2.extensions.connection):
    """A connection of psycopg2. `is_pooled`: a pooler lends it another connection of the server for each transaction.

    A pooler in session mode counts too: it may keep what a client has set for the next one.
    """

    is_pooled = False


class ExecutionContext(PGExecutionContext_psycopg2):
    """The execution of a statement; it replaces a dead connection first."""

    def create_cursor(self) -> Any:
        replace_if_dead(self._dbapi_connection)
        return super().create_cursor()


class Dialect(PGDialect_psycopg2):
    """SQLAlchemy's psycopg2 dialect without statements that Parley does not need, each of which is a round trip.

    It sends no `SET` when a connection leaves AUTOCOMMIT, and opens no transaction on a new connection.

    psycopg2's `autocommit` attribute changes no server state; its `set_isolation_level` costs a round trip per checkout
    (measured with pg_stat_statements).
    """

    supports_statement_cache = True
    execution_ctx_cls = ExecutionContext
    # Flask-SQLAlchemy converts its options with these; SQLAlchemy's own would cut DB_POOL_TIMEOUT=0.5 to 0.
    engine_config_types = immutabledict({**PGDialect_psycopg2.engine_config_types, "pool_timeout": float})

    def __init__(self, **options: Any) -> None:
        # The search for the type hstore, which no column has, is a transaction on each new connection.
        super().__init__(**{"use_native_hstore": False, **options})  # type: ignore[no-untyped-call]  # SQLAlchemy's own gap
        self._version = OLDEST_VERSION  # of the server, as far as it matters for its settings
        self._options_are_refused = False

    def initialize(self, connection: Connection) -> None:
        """Read the server's version and settings, on an engine's first connection, without a transaction.

        SQLAlchemy reads them in one transaction, which is idle between the statements, for long if the machine is busy.
        """
        driver_connection: Any = connection.connection.dbapi_connection
        before = driver_connection.autocommit  # true in an engine whose own level is AUTOCOMMIT
        driver_connection.autocommit = True
        super().initialize(connection)  # type: ignore[no-untyped-call]  # SQLAlchemy's own gap
        driver_connection.autocommit = before

    def connect(self, *arguments: Any, session_settings: tuple[SessionSetting, ...] = (), **parameters: Any) -> Any:
        """Open a connection with `session_settings`, which are sent as startup options.

        Raises `psycopg2.Error` if the server cannot be reached.
        """
        parameters = {"connection_factory": ServerConnection, **parameters}
        newer = tuple(setting for setting in session_settings if setting.since > OLDEST_VERSION)
        while True:
            connection = self._open(arguments, parameters, session_settings)
            version = connection.server_version // 10_000
            try:
                as_expected = _examine(connection, newer)
            except psycopg2.Error:  # one of the newer settings may have ended it
                as_expected = False
                if version <= self._version or not newer:
                    raise
            if as_expected or version <= self._version or connection.is_pooled:
                return connection
            connection.close()
            self._version = version

    def _open(self, arguments: Any, parameters: dict[str, Any], settings: tuple[SessionSetting, ...]) -> Any:
        if not settings or self._options_are_refused:
            return super().connect(*arguments, **parameters)
        options = f"{startup_options(settings, self._version)} {parameters.get('options', '')}".strip()
        try:
            return super().connect(*arguments, **{**parameters, "options": options})
        except psycopg2.OperationalError as error:
            if not _REFUSES_OPTIONS.search(str(error)):
                raise
            self._options_are_refused = True
            _log_refusal(f"{parameters.get('host')}:{parameters.get('port')}")
            return super().connect(*arguments, **parameters)

    def set_isolation_level(self, dbapi_connection: Any, level: IsolationLevel) -> None:
        if level == "AUTOCOMMIT":
            # Alembic reads the current level first, which begins a transaction; `set_isolation_level` also ends it.
            if dbapi_connection.status != psycopg2.extensions.STATUS_READY:
                dbapi_connection.rollback()
            dbapi_connection.autocommit = True
        else:
            super().set_isolation_level(dbapi_connection, level)  # type: ignore[no-untyped-call]  # SQLAlchemy's own gap

    def reset_isolation_level(self, dbapi_connection: Any) -> None:
        if dbapi_connection.isolation_level is None:  # still the server's default
            dbapi_connection.autocommit = False
        else:
            super().reset_isolation_level(dbapi_connection)  # type: ignore[no-untyped-call]  # likewise


def register_dialect() -> None:
    """Register `Dialect` for all later engines of this process: the pool, the migrations and the commands."""
    registry.register("postgresql.psycopg2", __name__, "Dialect")


@cache
def _log_refusal(address: str) -> None:
    """Log, once for each address, that its pooler refuses startup options."""
    _log.warning(
        "the pooler at %s refuses startup options, so Parley connects without them; its role needs its settings:"
        " flask ops database settings",
        address,
    )


def _examine(connection: Any, newer: tuple[SessionSetting, ...]) -> bool:
    """Recognise a pooler, and return whether the `newer` settings have their values or are unknown to the server."""
    columns = [
        "pg_catalog.pg_backend_pid()",
        *(f"pg_catalog.current_setting('{setting.name}', true)" for setting in newer),
    ]
    connection.autocommit = True  # an attribute of the client: neither BEGIN nor SET is sent
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT /* connection.examine */ {', '.join(columns)}")
        pid, *values = cursor.fetchone()
    connection.autocommit = False
    connection.is_pooled = pid != connection.get_backend_pid()
    return all(value is None or setting.matches(value) for setting, value in zip(newer, values, strict=True))
