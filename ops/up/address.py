"""The address that the web server will listen on: free before, healthy after."""

import errno
import http.client
import socket
import threading
from dataclasses import dataclass

from app.errors import SettingsError

POLL = 0.2  # seconds
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where a server on all addresses can be asked


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    @property
    def url(self) -> str:
        """For somebody on this machine."""
        host = ANY.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def check_free(self) -> None:
        """Raises `SettingsError` when nothing could listen there, saying why."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise SettingsError(
                f"HOST={self.host} is not a name or address of this machine ({error.args[-1]})"
            ) from None
        for family, kind, protocol, _, place in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(place)
                except OSError as error:
                    raise SettingsError(self._why_not(error)) from None

    def await_healthy(self, stopping: threading.Event) -> bool:
        """Wait until GET /health answers 200 (true), or until the platform stops (false)."""
        while not stopping.wait(POLL):
            if self._is_healthy():
                return True
        return False

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection(ANY.get(self.host, self.host), self.port, timeout=10)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _why_not(self, error: OSError) -> str:
        where = f"{self.host}:{self.port}"
        if error.errno == errno.EADDRINUSE:
            return f"{where} is taken by another program: stop that one, or choose another port: `make up PORT=8001`"
        if error.errno == errno.EACCES:
            return f"{where} is for root only: choose a port from 1024 up: `make up PORT=8000`"
        return f"{where} cannot be listened on ({error.strerror}): set HOST to an address of this machine, or unset it"
