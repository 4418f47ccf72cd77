"""A turn as server-sent events (WHATWG HTML, section 9.2): `id`, `event`, one line of JSON as `data`."""

from collections.abc import Iterator

import orjson
from flask import Response

from app.services.narration import TurnEvent
from app.services.running_turn import ToldTurn

PING_EVERY = 15.0  # seconds of silence after which a comment shows proxies that the connection lives

_PING = b": ping\n\n"


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
    opening = _PING  # so that the first bytes come at once, whatever is to be told
    for events in turn.follow(PING_EVERY, after):
        # What has come meanwhile goes out in one write: the busier the process, the fewer the writes.
        yield opening + b"".join(map(_line, events)) if events else _PING
        opening = b""


def _line(event: TurnEvent) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.sequence, event.kind.encode(), orjson.dumps(event.data))
