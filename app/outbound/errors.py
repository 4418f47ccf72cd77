"""Errors of an outbound call. The caller translates them into errors of its own.

    OutboundError
    ├── ConnectFailed      no connection: name, network, TLS, or the server refused it
    │   └── AddressRefused no connection was tried, because the address is not allowed
    ├── ConnectionLost     the connection broke after it was made
    ├── DeadlineExceeded   a deadline passed
    ├── InvalidResponse    the response is not valid HTTP
    └── CircuitOpen        no request was made, because the last ones failed

The message of each is a predicate whose subject is the server: "refused the connection". It quotes nothing that the
server sent and names no host; `reason` may.
"""

import socket
import ssl
from collections.abc import Callable, Iterator
from http.client import IncompleteRead
from typing import Final

import urllib3

from app.text import shortened

_MAX_CAUSES: Final = 20
_NO_TLS = "failed the TLS handshake: check the URL and its port"
_NO_NAME = "has a host name that cannot be resolved: check the URL and the network"
_REFUSED = "refused the connection: check that it runs and that the URL is right"
_NO_ROUTE = "cannot be reached from here: check the URL and the network"
_NO_HTTP = "answered with something that is not HTTP: check the URL and its port"


class OutboundError(Exception):
    """Base of the errors of this package. `reason` is for operators."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class ConnectFailed(OutboundError):
    """No connection could be made."""


class AddressRefused(ConnectFailed):
    """The host has an address that the caller's policy does not allow."""


class ConnectionLost(OutboundError):
    """The connection broke before the response was complete."""


class DeadlineExceeded(OutboundError):
    """A deadline passed; `connecting` is true if no request had been sent yet."""

    def __init__(self, message: str, *, connecting: bool = False) -> None:
        super().__init__(message)
        self.connecting = connecting


class InvalidResponse(OutboundError):
    """The response is not valid HTTP, or its body cannot be decoded."""


class CircuitOpen(OutboundError):
    """The circuit is open for `seconds` more, at least 1."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"has failed too often, so it is not called for {seconds} s")
        self.seconds = seconds


def translate(error: BaseException, timeout: Callable[[], OutboundError]) -> OutboundError:
    """Return the `OutboundError` for an error of urllib3, http.client, ssl or the socket.

    `timeout` makes the error for an exceeded socket timeout.
    """
    for cause in _causes(error):
        if isinstance(cause, OutboundError):
            return cause
        if isinstance(cause, TimeoutError):
            return timeout()
        if (translated := _of_cause(cause)) is not None:
            return translated
    return InvalidResponse(_NO_HTTP)


def short_reason(error: Exception) -> str:
    """Describe an error of urllib3 or the socket in two or three words, for operators."""
    cause = error.__cause__ or error.__context__
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "unknown host"
    if isinstance(error, urllib3.exceptions.SSLError):
        return "certificate not verified"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return "timed out" if isinstance(error, urllib3.exceptions.TimeoutError) else "connection lost"


def _of_cause(cause: BaseException) -> OutboundError | None:
    match cause:
        case ssl.SSLCertVerificationError():
            return ConnectFailed(
                "has a certificate that cannot be verified; "
                "if its authority is your own, set SSL_CERT_FILE to the authority's certificate",
                reason=shortened(cause.verify_message, 200),
            )
        case ssl.SSLError():
            return ConnectFailed(_NO_TLS)
        case socket.gaierror() | UnicodeError():
            return ConnectFailed(_NO_NAME)
        case ConnectionRefusedError():
            return ConnectFailed(_REFUSED)
        case IncompleteRead():
            return ConnectionLost("closed the connection in the middle of its answer")
        case ConnectionError():
            return ConnectionLost("broke the connection")
        case OSError():
            return ConnectFailed(_NO_ROUTE)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and its causes, breadth first: urllib3 keeps them in arguments, `reason` and `__cause__`."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting and len(seen) < _MAX_CAUSES:
        current = waiting.pop(0)
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting += [getattr(current, "reason", None), current.__cause__, *current.args]
