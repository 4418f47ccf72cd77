"""The database's host name, looked up by us: libpq asks for it with a call that stops every greenlet of a process.

Its `connect_timeout` does not bound that call either. gevent's own look-up gives way to others, and can be given up.
"""

import ipaddress
import socket
from typing import Any

import psycopg2


def looked_up(arguments: dict[str, Any]) -> dict[str, Any]:
    """`arguments` for `psycopg2.connect` with the addresses of the hosts they name; as they are where nothing is asked.

    libpq tries all addresses in their order. The names stay, for the server's certificate and for passwords by host.
    Raises `psycopg2.OperationalError` if none of the names is known.
    """
    names = str(arguments.get("host") or "").split(",")
    if "hostaddr" in arguments or all(map(_needs_no_question, names)):
        return arguments
    ports = str(arguments.get("port") or "").split(",")
    found: list[tuple[str, str, str]] = []
    unknown = ""
    for index, name in enumerate(names):
        port = ports[index] if len(ports) > 1 else ports[0]
        try:
            found += [(name, address, port) for address in _addresses(name)]
        except (OSError, UnicodeError) as error:
            unknown = f"could not find the address of the database's host {name}: {error}"
    if not found:
        raise psycopg2.OperationalError(unknown)
    hosts, addresses, ports = (list(column) for column in zip(*found, strict=True))
    return {**arguments, "host": ",".join(hosts), "hostaddr": ",".join(addresses), "port": ",".join(ports)}


def _addresses(name: str) -> list[str]:
    if _needs_no_question(name):
        return [""]
    return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)))


def _needs_no_question(name: str) -> bool:
    """A folder with a socket in it, an address, or libpq's default."""
    if not name or name.startswith(("/", "@")):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
