"""gunicorn's gevent worker, extended to wait for running turns, to bound half-sent requests, and to send problems.

gunicorn waits for requests only. A turn whose client has disconnected has no request, so it would be lost when the
worker stops: on SIGTERM, and when the worker is replaced after `max_requests`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gevent
from gunicorn.workers.ggevent import GeventWorker  # type: ignore[import-untyped]

from app.services.addresses import network_of
from ops.server import bodies
from ops.server.incoming import AwaitedConnections, Connection

if TYPE_CHECKING:  # the arbiter imports this file; the worker imports the application after patching the sockets
    from app.container import Services
    from app.turns.engine import TurnEngine

# Seconds before the arbiter's SIGKILL: running turns are stored as `interrupted` with their partial answer.
INTERRUPT_SECONDS = 5.0
_POLL = 0.2  # seconds


class DrainingGeventWorker(GeventWorker):  # type: ignore[misc]  # gunicorn comes without types
    """A worker that stops in three steps: no new requests; running requests and turns end; the rest is interrupted."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._awaited = AwaitedConnections()
        self._has_proxies = False
        self._connections: dict[Any, Connection] = {}  # by greenlet

    def run(self) -> None:
        """Serve until the worker is stopped, then wait for the running turns."""
        services: Services = self.wsgi.extensions["parley"]
        turns, self._has_proxies = services.turns, services.settings.server.trusted_proxies > 0
        watchdog = gevent.spawn(self._interrupt_before_kill, turns)
        super().run()  # returns when the running requests have ended
        while turns.running and not watchdog.dead:
            self.notify()  # the arbiter kills a worker without heartbeat
            gevent.sleep(_POLL)
        with gevent.Timeout(INTERRUPT_SECONDS, False):  # type: ignore[arg-type]  # False: no exception; missing in the stubs
            while turns.running:
                self.notify()
                gevent.sleep(_POLL)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection."""
        greenlet = gevent.getcurrent()
        address = network_of(addr[0]) if isinstance(addr, tuple) and not self._has_proxies else None
        self._connections[greenlet] = Connection(client, address)
        try:
            super().handle(listener, client, addr)
        finally:
            del self._connections[greenlet]

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Limit the time in which a request's head must arrive; gunicorn then closes the connection."""
        with super().timeout_ctx(), self._awaited.awaiting(self._connections[gevent.getcurrent()]):
            yield

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Serve one request, and close the connection if the application has not read the request's body."""
        bodies.limit_chunks(req)
        bodies.close_if_unread(req)
        if req.req_number == 1:
            self._awaited.receive_counted(self._connections[gevent.getcurrent()], req.unreader)
        try:
            super().handle_request(listener_name, req, sock, addr)
        except StopIteration:  # the connection is closed after the response
            if not bodies.is_read(req):
                bodies.discard_input(sock)
            raise
        if not bodies.is_read(req):
            bodies.discard_input(sock)
            raise StopIteration

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Send a problem response for an error outside the application."""
        from ops.server import server_errors

        server_errors.send_problem(client, req, exc)

    def _interrupt_before_kill(self, turns: "TurnEngine") -> None:
        while self.alive:
            gevent.sleep(_POLL)
        gevent.sleep(max(0.0, self.cfg.graceful_timeout - INTERRUPT_SECONDS))
        if turns.running:
            self.log.warning("interrupting %s turns at the end of the grace period", turns.running)
            turns.interrupt_all()
