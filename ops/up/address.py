"""The address of the web server: the check that it is free, waiting for its health, and its record for clients."""

import errno
import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from app.errors import SettingsError

POLL = 0.2  # seconds
CONNECT_SECONDS = 1.0
RECORD = "web.url"  # file in PARLEY_HOME
LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # to reach a server that listens on all addresses


@dataclass(frozen=True)
class Address:
    """The host and port of the web server."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """URL for clients on this machine."""
        host = LOOPBACK_OF.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @contextmanager
    def recorded(self, home: Path) -> Iterator[None]:
        """Store the URL in `home` for `running_url`, until the context ends.

        Several servers may have one home, each with its own port: the record is of the one that started last and still
        runs.
        """
        record, before = home / RECORD, ""
        with suppress(OSError):
            before = record.read_text()
        with suppress(OSError):  # commands then use the settings
            record.write_text(self.url)
        try:
            yield
        finally:
            with suppress(OSError):
                if record.read_text() == self.url:
                    record.write_text(before) if before else record.unlink()

    def check_free(self) -> None:
        """Raise `SettingsError` if a server cannot bind the address."""
        try:
            candidates = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise SettingsError(
                f"HOST={self.host} is not a name or address of this machine ({error.args[-1]})"
            ) from None
        for family, kind, protocol, _, address in candidates:
            with socket.socket(family, kind, protocol) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    listener.bind(address)
                except OSError as error:
                    raise SettingsError(self._describe(error)) from None

    def wait_until_healthy(self, stopping: threading.Event) -> bool:
        """Wait until GET /health returns 200; return False if `stopping` is set before."""
        while not stopping.wait(POLL):
            if self._is_healthy():
                return True
        return False

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK_OF.get(self.host, self.host), self.port, timeout=10)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _describe(self, error: OSError) -> str:
        address = f"{self.host}:{self.port}"
        if error.errno == errno.EADDRINUSE:
            return f"{address} is used by another program: stop it, or choose another port: `make up PORT=8001`"
        if error.errno == errno.EACCES:
            return f"{address} is reserved for root: choose a port from 1024 on: `make up PORT=8000`"
        return f"{address} cannot be used ({error.strerror}): set HOST to an address of this machine, or unset it"


def running_url(home: Path) -> str | None:
    """Return the URL of the server that `make up` runs with this home; None if there is none."""
    try:
        url = (home / RECORD).read_text()
        target = urlsplit(url)
        socket.create_connection((target.hostname or "", target.port or 0), CONNECT_SECONDS).close()
    except (OSError, ValueError):  # no record, or one that a killed process left
        return None
    return url
