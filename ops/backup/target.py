"""How programs and connections reach the very server that a connection of ours is on.

Everything but the password stands in a connection string that everybody may see; the password travels in the
environment, which only this user's processes can read.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import psycopg2
from psycopg2.extensions import make_dsn
from sqlalchemy import Connection, NullPool, create_engine

from app.database import Dialect
from ops.embedded.server import plain_environment

NAME = "parley-backup"  # what the server's activity view calls us
CONNECT_SECONDS = 10
LOCK_SECONDS = 60  # for a table that a migration holds; pg_dump waits as long

# Of what libpq can be told, whatever its version; what a newer one adds, an older pg_dump refuses.
_KEPT = (
    "hostaddr", "user", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslsni",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "channel_binding", "gssencmode", "krbsrvname",
    "requirepeer",
)  # fmt: skip
_ALIVE = {
    "connect_timeout": str(CONNECT_SECONDS), "keepalives": "1", "keepalives_idle": "30", "keepalives_interval": "10",
    "keepalives_count": "3", "tcp_user_timeout": "60000",
}  # fmt: skip
# A dump takes as long as it takes: nothing that the application or its role is bound by ends it halfway.
_UNHURRIED = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": f"{LOCK_SECONDS}s",
}
_TRANSACTION_TIMEOUT_SINCE = 17


@dataclass(frozen=True)
class Target:
    """One database on one server. `version` is the server's major one; `encrypted`: the connection was in TLS."""

    parameters: Mapping[str, str]
    password: str = field(repr=False)
    version: int
    encrypted: bool

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """Where `connection` leads. Of several hosts, the one it is on."""
        driver: Any = connection.connection.dbapi_connection
        said = driver.get_dsn_parameters()
        kept = {name: said[name] for name in _KEPT if said.get(name)}
        if "," in kept.get("hostaddr", ""):
            del kept["hostaddr"]
        host, port = driver.info.host, str(driver.info.port)
        return cls(
            {**kept, "host": host, "port": port, **_ALIVE},
            driver.info.password or "",
            driver.server_version // 10_000,
            bool(driver.info.ssl_in_use),
        )

    @property
    def database(self) -> str:
        return self.parameters["dbname"]

    @property
    def conninfo(self) -> str:
        """For a program's `--dbname`; holds no password."""
        return make_dsn(**self.parameters)

    def environment(self) -> dict[str, str]:
        """For a program: the password, if there is one, and little else of ours."""
        home = {"HOME": os.environ["HOME"]} if "HOME" in os.environ else {}
        return {**plain_environment(), **home, **({"PGPASSWORD": self.password} if self.password else {})}

    def on(self, database: str) -> Self:
        """Another database of the same server."""
        return replace(self, parameters={**self.parameters, "dbname": database})

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection of its own, in AUTOCOMMIT, bound by no timeout but the one for locks."""
        engine = create_engine(
            "postgresql+psycopg2://",
            creator=lambda: psycopg2.connect(self.conninfo, password=self.password or None, application_name=NAME),
            poolclass=NullPool,
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",
        )
        assert isinstance(engine.dialect, Dialect)  # noqa: S101  # as everywhere in this process
        with engine.connect() as connection:
            unhurried(connection)
            yield connection


def unhurried(connection: Connection) -> None:
    """Take from a connection every timeout but the one for locks, for as long as it lives."""
    driver: Any = connection.connection.dbapi_connection
    wanted = dict(_UNHURRIED)
    if driver.server_version // 10_000 >= _TRANSACTION_TIMEOUT_SINCE:
        wanted["transaction_timeout"] = "0"
    for name, value in wanted.items():
        connection.exec_driver_sql("SELECT set_config(%(name)s, %(value)s, false)", {"name": name, "value": value})
