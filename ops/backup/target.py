"""Connection parameters for programs and further connections to the server of an open connection.

The connection string on the command line, which every local user can read, holds no password. The password is passed
in the environment, which only processes of this user can read.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

import psycopg2
from psycopg2.extensions import make_dsn
from sqlalchemy import Connection, NullPool

from app.database import make_engine, require_own_session
from app.session_settings import as_options
from ops.embedded.server import minimal_environment

APPLICATION_NAME = "parley-backup"  # in pg_stat_activity
CONNECT_SECONDS = 10
LOCK_SECONDS = 60  # to wait for a table that a migration locks; also for pg_dump

# libpq parameters that every supported version accepts. An older pg_dump rejects newer ones.
_COPIED = (
    "hostaddr", "user", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslsni",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "channel_binding", "gssencmode", "krbsrvname",
    "requirepeer",
)  # fmt: skip
_KEEPALIVE = {
    "connect_timeout": str(CONNECT_SECONDS), "keepalives": "1", "keepalives_idle": "30", "keepalives_interval": "10",
    "keepalives_count": "3", "tcp_user_timeout": "60000",
}  # fmt: skip
# A dump can take hours, so the timeouts of the application and its role are switched off.
_NO_TIMEOUTS = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": f"{LOCK_SECONDS}s",
}
_TRANSACTION_TIMEOUT_FROM = 17  # version of PostgreSQL


@dataclass(frozen=True)
class Target:
    """A database on a server. `version` is the server's major version; `encrypted`: the connection used TLS."""

    parameters: Mapping[str, str]
    password: str = field(repr=False)
    version: int
    encrypted: bool

    @classmethod
    def from_connection(cls, connection: Connection) -> Self:
        """Return the target of `connection`. Of several hosts in its URL, the one that it uses.

        Raises `OwnSessionRequired` if it goes through a pooler: pg_dump and pg_restore set much in their session.
        """
        require_own_session(connection)
        driver: Any = connection.connection.dbapi_connection
        parameters = driver.get_dsn_parameters()
        copied = {name: parameters[name] for name in _COPIED if parameters.get(name)}
        if "," in copied.get("hostaddr", ""):
            del copied["hostaddr"]
        host, port = driver.info.host, str(driver.info.port)
        return cls(
            {**copied, "host": host, "port": port, **_KEEPALIVE},
            driver.info.password or "",
            driver.server_version // 10_000,
            bool(driver.info.ssl_in_use),
        )

    @property
    def database(self) -> str:
        return self.parameters["dbname"]

    @property
    def conninfo(self) -> str:
        """Connection string for a program's `--dbname`, without the password."""
        return make_dsn(**self.parameters)

    def environment(self) -> dict[str, str]:
        """Return the environment for a program: PGPASSWORD, HOME, and no settings of Parley."""
        home = {"HOME": os.environ["HOME"]} if "HOME" in os.environ else {}
        return {**minimal_environment(), **home, **({"PGPASSWORD": self.password} if self.password else {})}

    def on(self, database: str) -> Self:
        """Return another database of the same server."""
        return replace(self, parameters={**self.parameters, "dbname": database})

    def _connect(self, settings: Mapping[str, str]) -> Any:
        values = {**_NO_TIMEOUTS, **settings}
        if self.version >= _TRANSACTION_TIMEOUT_FROM:
            values["transaction_timeout"] = "0"
        return psycopg2.connect(
            self.conninfo,
            password=self.password or None,
            application_name=APPLICATION_NAME,
            options=as_options(values),
        )

    @contextmanager
    def connected(self, settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[Connection]:
        """Open a new connection in AUTOCOMMIT, without timeouts except the one for locks, and with `settings`."""
        engine = make_engine(
            "postgresql+psycopg2://",
            creator=lambda: self._connect(settings),
            poolclass=NullPool,
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",
        )
        with engine.connect() as connection:
            yield connection
