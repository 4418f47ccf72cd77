"""Replacement of connections that the server has ended, as after a failover.

The server sends nothing to an idle connection until it ends it. So if the socket of a connection that is in no
transaction is readable before a statement, the connection is dead. To find that costs one system call and no round
trip.
"""

import logging
import select
from typing import Any

from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from app.polling import has_event

_log = logging.getLogger("parley.database")


def replace_if_dead(proxied: Any) -> None:
    """Replace the connection under `proxied` if it is idle and its socket is readable.

    A detached connection stays: its session may hold a lock.
    """
    connection, record = proxied.dbapi_connection, proxied._connection_record
    if record is None or connection.get_transaction_status() != TRANSACTION_STATUS_IDLE or not is_readable(connection):
        return
    _log.info("a connection to the database had ended, and was replaced")
    autocommit, level = connection.autocommit, connection.isolation_level
    proxied.dbapi_connection = None  # so that it counts as invalid if no new one can be opened
    record.invalidate()
    connection = proxied.dbapi_connection = record.get_connection()
    if autocommit:
        connection.autocommit = True
    elif level is not None:
        connection.isolation_level = level


def is_readable(connection: Any) -> bool:
    """Return whether the socket has data, an end of file or an error: on an idle connection, it is dead."""
    return has_event(connection.fileno(), select.POLLIN | select.POLLPRI)
