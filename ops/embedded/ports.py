"""Ports on loopback: below the range that the kernel hands to outgoing connections, and kept from run to run."""

import random
import socket

from ops.embedded.errors import EmbeddedError

LOWEST, HIGHEST = 20_000, 32_767  # Linux gives outgoing connections 32768 and up
ATTEMPTS = 200


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there. A port that only has closing connections counts as free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def choose(previous: int) -> int:
    """The previous port (0: there was none) if it is still free, else a new one.

    Raises `EmbeddedError` when none can be found.
    """
    if previous and is_free(previous):
        return previous
    for _ in range(ATTEMPTS):
        port = random.randint(LOWEST, HIGHEST)  # noqa: S311  # spreads two clones apart; guards nothing
        if is_free(port):
            return port
    raise EmbeddedError(f"no free port on 127.0.0.1 between {LOWEST} and {HIGHEST}: stop something that listens there")
