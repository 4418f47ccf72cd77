"""The embedded PostgreSQL for an application that is told no DATABASE_URL: started by its first connection.

So `flask --help`, or a command that needs no database, starts nothing.
"""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.embedded.lease import Lease, lease_postgres

if TYPE_CHECKING:  # the keeper imports this package too, and has no use for a web framework
    from flask import Flask

# Valid, and leading nowhere: the listener below replaces it before anything is connected.
URL_WHEN_STARTED = "postgresql+psycopg2://parley@127.0.0.1:1/parley"


def start_when_used(flask_app: "Flask", home: Path) -> None:
    """Have the application's engine lease the PostgreSQL in `home` when it first connects.

    The lease lasts as long as the process. The connection attempt raises `EmbeddedError` when there is no server.
    """
    from sqlalchemy import event, make_url

    from app.extensions import db

    leases: dict[int, Lease] = {}  # by process: a forked worker needs a lease of its own
    guard = threading.Lock()

    def lead_to_server(dialect: Any, record: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
        with guard:
            if os.getpid() not in leases:
                leases[os.getpid()] = lease_postgres(home)
        kwargs |= make_url(leases[os.getpid()].url).translate_connect_args(username="user", database="dbname")

    with flask_app.app_context():
        event.listen(db.engine, "do_connect", lead_to_server, insert=True)
