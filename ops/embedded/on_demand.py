"""The embedded PostgreSQL for an application without DATABASE_URL, started by its first connection.

A command that needs no database, such as `flask --help`, therefore starts no server.
"""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.embedded import state
from ops.embedded.errors import EmbeddedError
from ops.embedded.lease import Lease, lease_postgres
from ops.embedded.site import open_site

if TYPE_CHECKING:  # the keeper imports this package, and Flask is slow to import
    from flask import Flask


def embedded_port(home: Path) -> int | None:
    """Return the port of the PostgreSQL in `home`, or the last one; None if it was never started or is unreadable."""
    try:
        current = state.read(open_site(home), "postgres")
    except EmbeddedError:
        return None
    return current.port if current is not None else None


# A valid placeholder. The listener below replaces the address before each connection.
URL_WHEN_STARTED = "postgresql+psycopg2://parley@127.0.0.1:1/parley"


def start_on_first_connection(flask_app: "Flask", home: Path) -> None:
    """Let the application's engine lease the PostgreSQL in `home` at its first connection, until the process ends.

    Connecting raises `EmbeddedError` if the server cannot be started.
    """
    from sqlalchemy import event, make_url

    from app.database import current_engine

    leases: dict[int, Lease] = {}  # by process id, because a forked worker needs its own lease
    guard = threading.Lock()

    def use_leased_server(dialect: Any, record: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
        with guard:
            if os.getpid() not in leases:
                leases[os.getpid()] = lease_postgres(home)
            else:
                leases[os.getpid()].restart_if_ended()
        kwargs |= make_url(leases[os.getpid()].url).translate_connect_args(username="user", database="dbname")

    with flask_app.app_context():
        event.listen(current_engine(), "do_connect", use_leased_server, insert=True)
