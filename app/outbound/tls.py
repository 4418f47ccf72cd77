"""Waits of a TLS socket within the deadlines of a call."""

import ssl
from collections.abc import Callable
from typing import TypeVar

from urllib3.util import wait_for_read, wait_for_write

from app.outbound.deadlines import Deadlines

T = TypeVar("T")


def tls_wait(sock: ssl.SSLSocket, deadlines: Deadlines, step: Callable[[], T]) -> T:
    """Run `step` on a non-blocking socket, waiting as TLS requires.

    With a timeout on the socket, gevent's ssl module would allow that timeout for each packet of a record.
    """
    sock.settimeout(0)
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            wait_for_read(sock, deadlines.remaining())
        except ssl.SSLWantWriteError:
            wait_for_write(sock, deadlines.remaining())
