"""Encryption of the connections to the database."""

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.checks.connection import pooled
from ops.levels import Level

REQUIRING_TLS = ("require", "verify-ca", "verify-full")  # values of sslmode; with the others, TLS is optional


@check("connection.encryption", "Are connections over public networks encrypted?", severity=Level.CRITICAL)
def encryption(context: CheckContext) -> Iterator[Finding]:
    """Find connections over public networks that are not encrypted or may fall back to plain text.

    Connections within this host or a private network are not checked.
    """
    if context.settings.database.direct_url is not None:
        yield from _check_connection("DATABASE_DIRECT_URL", context.connection)
        with pooled(context) as connection:
            yield from _check_connection("DATABASE_URL", connection)
    else:
        yield from _check_connection("DATABASE_URL", context.connection)


def _check_connection(variable: str, connection: Connection) -> Iterator[Finding]:
    driver: Any = connection.connection.dbapi_connection
    info = driver.info
    peer = peer_address(socket_of(connection))
    if not is_public(peer):
        return
    mode = info.dsn_parameters.get("sslmode", "prefer")
    evidence = {"peer": peer, "sslmode": mode, "tls": info.ssl_attribute("protocol") if info.ssl_in_use else None}
    remedy = f"Add ?sslmode=verify-full&sslrootcert=... (or at least sslmode=require) to {variable}"
    if not info.ssl_in_use:
        message = f"{variable} connects over a public network without TLS: messages are readable there."
        yield Finding(level=Level.CRITICAL, message=message, object=variable, evidence=evidence, remedy=remedy)
    elif mode not in REQUIRING_TLS:
        message = f"{variable} does not require TLS (sslmode={mode}): a server without TLS would be accepted."
        yield Finding(level=Level.WARNING, message=message, object=variable, evidence=evidence, remedy=remedy)


def socket_of(connection: Connection) -> int:
    """Return the file descriptor of the connection's socket."""
    driver: Any = connection.connection.dbapi_connection
    descriptor: int = driver.fileno()
    return descriptor


def peer_address(descriptor: int) -> str | None:
    """Return the peer's IP address; None for a Unix socket."""
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        peer = copy.getpeername()
    return str(peer[0]) if isinstance(peer, tuple) and peer else None


def is_public(address: str | None) -> bool:
    """Return whether the address is a public one."""
    if address is None:
        return False
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return bool((mapped or ip).is_global)
