"""Whether others could listen to what Parley and its database say to each other."""

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from ops.checks.connection import pooled
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

DEMANDING = ("require", "verify-ca", "verify-full")  # of sslmode; with the others a connection may go unencrypted


def encryption(probe: Probe) -> Iterator[Finding]:
    """For each of the two ways to the database that leads through a public network: is it encrypted, and must it be?

    What stays on this host, or in a private network, is left to whoever built that.
    """
    if probe.settings.database.direct_url is not None:
        yield from _judge("DATABASE_DIRECT_URL", probe.connection)
        with pooled(probe) as connection:
            yield from _judge("DATABASE_URL", connection)
    else:
        yield from _judge("DATABASE_URL", probe.connection)


def _judge(variable: str, connection: Connection) -> Iterator[Finding]:
    driver: Any = connection.connection.dbapi_connection
    info = driver.info
    peer = peer_address(socket_of(connection))
    if not is_public(peer):
        return
    mode = info.dsn_parameters.get("sslmode", "prefer")
    evidence = {"peer": peer, "sslmode": mode, "tls": info.ssl_attribute("protocol") if info.ssl_in_use else None}
    remedy = f"Add ?sslmode=verify-full&sslrootcert=... (or at least sslmode=require) to {variable}"
    if not info.ssl_in_use:
        what = f"The way of {variable} leads through a public network, and what people write goes there in the clear."
        yield Finding(level=Level.CRITICAL, what=what, evidence=evidence, remedy=remedy)
    elif mode not in DEMANDING:
        what = f"{variable} does not demand TLS (sslmode={mode}): a server that offers none would be believed."
        yield Finding(level=Level.WARNING, what=what, evidence=evidence, remedy=remedy)


def socket_of(connection: Connection) -> int:
    """The descriptor of its socket."""
    driver: Any = connection.connection.dbapi_connection
    descriptor: int = driver.fileno()
    return descriptor


def peer_address(descriptor: int) -> str | None:
    """The address at the other end of a socket; None on this host's own kind of socket."""
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        peer = copy.getpeername()
    return str(peer[0]) if isinstance(peer, tuple) and peer else None


def is_public(address: str | None) -> bool:
    """Whether that address can be reached from anywhere."""
    if address is None:
        return False
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_global)
