"""The name look-up and the connect of a call, within its deadlines."""

import socket
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from urllib3.util.connection import create_connection

from app.outbound.addresses import AddressPolicy
from app.outbound.deadlines import Deadlines

# With keep-alive a connection whose other end vanished behind a NAT is detected while idle, not by the next call.
_SOCKET_OPTIONS: list[tuple[int, int, int | bytes]] = [
    (getattr(socket, level), getattr(socket, name), value)
    for level, name, value in (
        ("IPPROTO_TCP", "TCP_NODELAY", 1),
        ("SOL_SOCKET", "SO_KEEPALIVE", 1),
        ("IPPROTO_TCP", "TCP_KEEPIDLE", 30),
        ("IPPROTO_TCP", "TCP_KEEPINTVL", 10),
        ("IPPROTO_TCP", "TCP_KEEPCNT", 3),
    )
    if hasattr(socket, name)  # macOS has no TCP_KEEPIDLE
]


def _look_up(host: str, port: int, deadlines: Deadlines) -> list[Any]:
    """Return the addresses of `host`. getaddrinfo has no timeout, so it runs in a thread that may be left behind."""
    with suppress(socket.gaierror):  # an address needs no look-up
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    addresses: list[list[Any]] = []
    failure: list[OSError | UnicodeError] = []
    resolved = Event()

    def look_up() -> None:
        try:
            addresses.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            failure.append(error)
        finally:
            resolved.set()

    Thread(target=look_up, name="look-up", daemon=True).start()
    if not resolved.wait(deadlines.remaining()):
        raise deadlines.exceeded()
    if failure:
        raise failure[0]
    return addresses[0]


def dial(host: str, port: int, deadlines: Deadlines, policy: AddressPolicy | None) -> socket.socket:
    """Connect to the first address that accepts. Each gets an equal share of the remaining time.

    The addresses are those that `policy` has checked; no name is looked up again.
    """
    failure: OSError = socket.gaierror("the name has no address")
    addresses = _look_up(host, port, deadlines)
    if policy is not None:
        policy.check(host, [str(address[0]) for *_, address in addresses])
    for index, (*_, address) in enumerate(addresses):
        share = deadlines.remaining() / (len(addresses) - index)
        try:
            return create_connection(address[:2], share, socket_options=_SOCKET_OPTIONS)
        except OSError as error:
            failure = error
    if isinstance(failure, TimeoutError):
        raise deadlines.exceeded()
    raise failure
