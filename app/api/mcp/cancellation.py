"""Cancellation of a request by its client, and its end at the call timeout.

Since 2026-07-28 a client cancels a request by closing the connection. Earlier revisions say that a closed connection is
no cancellation, and have `notifications/cancelled`, which may reach another worker than the request. So a notification
leaves a mark for some seconds, in Redis or, without it, in the memory of the worker, and a request that takes longer
than an instant looks for the mark of its own id. Without sessions, the clients of one credential are distinguished by
address and user agent.
"""

import hashlib
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flask import request

from app.api.access import caller
from app.api.mcp.errors import McpError
from app.api.mcp.messages import Message
from app.api.mcp.protocol import Revision
from app.container import Services, services
from app.encoding import encode_json
from app.errors import CallCancelled
from app.outbound.cancellation import CancelToken
from app.polling import has_event
from app.services.interruption import interruptible_by

NOTIFICATION = "notifications/cancelled"
REQUEST_CANCELLED = -32800  # as in the Language Server Protocol; MCP has no code, because no client reads the response
_MARK_SECONDS = 5.0
_INTERVAL = 0.25  # seconds between two looks
_PEER_CLOSED = getattr(select, "POLLRDHUP", 0)  # Linux; elsewhere a reset connection is noticed only


def cancel_request(message: Message) -> None:
    """Mark the request that a notification names as cancelled. Other notifications do nothing."""
    request_id = message.params.get("requestId")
    if message.method == NOTIFICATION and isinstance(request_id, str | int):
        services().counters.add([(_mark_of(request_id), _MARK_SECONDS)])


@contextmanager
def cancellable(message: Message, revision: Revision) -> Iterator[CancelToken]:
    """Yield the token of the current request. It is cancelled by the client, or after TOOL_CALL_TIMEOUT.

    Raises `McpError` if the client has cancelled the request.
    """
    token, process = CancelToken(), services()
    watch = _Watch(process, token, message, revision)
    watch.start()
    try:
        with interruptible_by(token):
            yield token
    except CallCancelled:
        if not watch.by_client:
            raise
    finally:
        watch.end()
    if watch.by_client:
        raise McpError(REQUEST_CANCELLED, "The client has cancelled the request.")


class _Watch:
    """A thread that looks for the end of a request until the request has ended."""

    def __init__(self, process: Services, token: CancelToken, message: Message, revision: Revision) -> None:
        self._process, self._token = process, token
        self._until = time.monotonic() + process.settings.tools.call_timeout
        self._client = request.environ.get("gunicorn.socket") if revision.is_stateless else None
        self._mark = _mark_of(message.id) if message.id is not None and not revision.is_stateless else None
        self._ended = threading.Event()
        self.by_client = False

    def start(self) -> None:
        """Start the thread."""
        with suppress(RuntimeError):  # the system allows no more threads: the request ends by itself
            threading.Thread(target=self._run, name="mcp cancellation", daemon=True).start()

    def end(self) -> None:
        """End the thread."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self.by_client = self._is_cancelled()
            if self.by_client or time.monotonic() >= self._until:
                self._token.cancel()
                return

    def _is_cancelled(self) -> bool:
        if self._client is not None:
            return self._client.fileno() >= 0 and has_event(self._client.fileno(), _PEER_CLOSED)
        return self._mark is not None and self._process.counters.read([self._mark])[0] > 0


def _mark_of(request_id: int | str) -> str:
    """Return the key of the mark of a request of the current client."""
    client = [str(caller().credential_id), request.remote_addr, request.headers.get("User-Agent", ""), request_id]
    return f"mcp:cancelled:{hashlib.sha256(encode_json(client)).hexdigest()}"
