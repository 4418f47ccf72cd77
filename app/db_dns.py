"""DNS lookup of the database's host name in front of libpq, whose own lookup blocks every greenlet of a process.

libpq's `connect_timeout` does not limit its lookup. gevent's lookup yields to other greenlets and can time out.
"""

import ipaddress
import socket
from typing import Any

import psycopg2


def resolve_hosts(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `psycopg2.connect` with the addresses of their hosts in `hostaddr`.

    Arguments without a host name are returned unchanged. libpq tries the addresses in order. `host` keeps the names,
    which libpq compares with the server's certificate and looks up in the password file. Raises
    `psycopg2.OperationalError` if no name resolves.
    """
    names = str(arguments.get("host") or "").split(",")
    if "hostaddr" in arguments or not any(map(_needs_lookup, names)):
        return arguments
    ports = str(arguments.get("port") or "").split(",")
    targets: list[tuple[str, str, str]] = []
    failure = ""
    for index, name in enumerate(names):
        port = ports[index] if len(ports) > 1 else ports[0]
        try:
            targets += [(name, address, port) for address in _addresses(name)]
        except (OSError, UnicodeError) as error:
            failure = f"could not resolve the database host {name}: {error}"
    if not targets:
        raise psycopg2.OperationalError(failure)
    hosts, addresses, ports = (list(column) for column in zip(*targets, strict=True))
    return {**arguments, "host": ",".join(hosts), "hostaddr": ",".join(addresses), "port": ",".join(ports)}


def _addresses(name: str) -> list[str]:
    if not _needs_lookup(name):
        return [""]
    return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)))


def _needs_lookup(name: str) -> bool:
    """Return False for a socket directory, an IP address and libpq's default."""
    if not name or name.startswith(("/", "@")):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False
