"""A turn as server-sent events (WHATWG HTML, section 9.2): `id`, `event`, one line of JSON as `data`."""

from collections.abc import Iterator

import orjson
from flask import Response

from app.services.running_turn import RunningTurn

PING_EVERY = 15.0  # seconds of silence after which a comment shows proxies that the connection lives


def event_stream(turn: RunningTurn) -> Response:
    """A response that tells everything `turn` says, from its first event to its last."""
    return Response(
        _lines(turn),
        content_type="text/event-stream; charset=utf-8",
        headers={
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx would otherwise collect the answer before passing it on
        },
    )


def _lines(turn: RunningTurn) -> Iterator[bytes]:
    yield b": ping\n\n"
    for event in turn.follow(silence=PING_EVERY):
        if event is None:
            yield b": ping\n\n"
        else:
            data = orjson.dumps(event.data)
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.sequence, event.kind.encode(), data)
