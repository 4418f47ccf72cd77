"""Turns as server-sent events (WHATWG HTML, section 9.2): `id`, `event`, and one line of JSON as `data`."""

import select
import socket
import time
from collections.abc import Iterator

from flask import Response, request
from werkzeug.datastructures import MIMEAccept

from app.api.access import caller
from app.container import services
from app.encoding import encode_json_line
from app.errors import InvalidInput
from app.polling import has_event
from app.turns.event_buffer import TurnEvent
from app.turns.subscription import Subscription

PING_INTERVAL = 15.0  # seconds without events after which a comment keeps proxies from closing the connection
CHECK_INTERVAL = 2.0  # seconds without events after which a client is pinged that may have left

_PEER_CLOSED = getattr(select, "POLLRDHUP", 0)  # Linux
_PING = b": ping\n\n"
_MEDIA_TYPE = "text/event-stream"


def prefers_stream(accept: MIMEAccept) -> bool:
    """Return whether an Accept header names `text/event-stream`, with a quality that is not 0 nor below JSON's."""
    named = (quality for value, quality in accept if value.partition(";")[0].strip().lower() == _MEDIA_TYPE)
    quality = max(named, default=0)
    return quality > 0 and quality >= accept.quality("application/json")


def last_event_id() -> int:
    """Return the sequence in the request's `Last-Event-ID`, or 0 without one. Raises `InvalidInput`."""
    sent = request.headers.get("Last-Event-ID", "").strip() or "0"
    if not (sent.isascii() and sent.isdigit() and len(sent) <= 10):
        raise InvalidInput("The Last-Event-ID must be the id of an event of this turn: an integer.")
    return int(sent)


def event_stream(subscription: Subscription) -> Response:
    """Return a response with all events that the reader lacks."""
    return Response(
        _lines(services().turns.read(caller(), subscription, CHECK_INTERVAL), request.environ.get("gunicorn.socket")),
        content_type=f"{_MEDIA_TYPE}; charset=utf-8",
        headers={
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # otherwise nginx buffers the response
        },
    )


def _lines(lists: Iterator[list[TurnEvent]], client: socket.socket | None) -> Iterator[bytes]:
    prefix = _PING  # sends the first bytes at once
    sent_at = 0.0
    for events in lists:
        if events:
            # All available events go out in one write: the busier the process, the fewer the writes.
            yield prefix + b"".join(map(_line, events))
        elif prefix or time.monotonic() - sent_at >= PING_INTERVAL or _may_have_left(client):
            yield _PING
        else:
            continue
        prefix, sent_at = b"", time.monotonic()


def _may_have_left(client: socket.socket | None) -> bool:
    """Return whether the client has closed its side of the connection. Only a write shows whether it still reads."""
    if client is None or client.fileno() < 0:
        return False
    return has_event(client.fileno(), _PEER_CLOSED)


def _line(event: TurnEvent) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.sequence, event.kind.encode(), encode_json_line(event.data))
