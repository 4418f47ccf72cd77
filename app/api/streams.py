"""A turn as server-sent events (WHATWG HTML, section 9.2): `id`, `event`, one line of JSON as `data`."""

from collections.abc import Iterator

import orjson
from flask import Response

from app.services.running_turn import ToldTurn

PING_EVERY = 15.0  # seconds of silence after which a comment shows proxies that the connection lives


def event_stream(turn: ToldTurn, after: int = 0) -> Response:
    """A response that tells everything `turn` says beyond the event `after`, to its last."""
    return Response(
        _lines(turn, after),
        content_type="text/event-stream; charset=utf-8",
        headers={
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx would otherwise collect the answer before passing it on
        },
    )


def _lines(turn: ToldTurn, after: int) -> Iterator[bytes]:
    yield b": ping\n\n"
    for event in turn.follow(PING_EVERY, after):
        if event is None:
            yield b": ping\n\n"
        else:
            data = orjson.dumps(event.data)
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.sequence, event.kind.encode(), data)
