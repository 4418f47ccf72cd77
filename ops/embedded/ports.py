"""Ports on loopback, below the kernel's range for outgoing connections, and the same in every run if free."""

import random
import socket

from ops.embedded.errors import EmbeddedError

LOWEST, HIGHEST = 20_000, 32_767  # Linux uses ports from 32768 on for outgoing connections
ATTEMPTS = 200


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server could bind the port. One with only closing connections is free."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
        return True


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether the port accepts connections."""
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def choose_port(previous: int) -> int:
    """Return the previous port (0: none) if it is free, else a new one. Raises `EmbeddedError` if none is free."""
    if previous and is_free(previous):
        return previous
    for _ in range(ATTEMPTS):
        port = random.randint(LOWEST, HIGHEST)  # noqa: S311  # not for security; separates installations on one machine
        if is_free(port):
            return port
    raise EmbeddedError(
        f"no free port on 127.0.0.1 between {LOWEST} and {HIGHEST}: stop a program that uses one of them"
    )
