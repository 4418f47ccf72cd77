"""Client of event streams: the parser of the WHATWG HTML standard (section 9.2.6), and a turn made of its events."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

ENDS = {"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"}


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event."""

    id: str
    kind: str
    data: str


def parse(body: bytes | Iterable[bytes]) -> Iterator[Event]:
    """Parse a whole stream, or one that arrives in chunks. An event without its blank line is not dispatched."""
    chunks = [body] if isinstance(body, bytes) else body
    last_id = kind = ""
    data: list[str] = []
    for line in _lines(chunks):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Event(last_id, kind or "message", "\n".join(data))
            kind, data = "", []
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines, which end with CRLF, LF or CR and with nothing else; the rest after the last end is dropped."""
    rest, first = b"", True
    for chunk in chunks:
        rest += chunk
        *lines, rest = re.split(rb"\r\n|\n|\r(?!\Z)", rest)
        for line in lines:
            text = line.decode("utf-8", "replace")
            yield text.removeprefix("\ufeff") if first else text
            first = False


@dataclass
class TurnReader:
    """A turn as a correct client assembles it: `turn.restarted` discards the text."""

    last_id: int = 0
    turn: dict[str, Any] = field(default_factory=dict)
    conversation: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    message: dict[str, Any] | None = None
    end: str | None = None
    kinds: list[str] = field(default_factory=list)

    def read(self, events: Iterable[Event], count: int | None = None) -> "TurnReader":
        """Read all events, or up to `count` of them."""
        for event in islice(events, count):
            self._add(event)
        return self

    def _add(self, event: Event) -> None:
        assert self.end is None, f"{event} after {self.end}"
        # A replay after the last event but one of a purged stream has no free id for `turn.restarted`.
        least = self.last_id if event.kind == "turn.restarted" else self.last_id + 1
        assert int(event.id) >= least, f"{event} after {self.last_id}"
        self.last_id = int(event.id)
        self.kinds.append(event.kind)
        data = orjson.loads(event.data)
        if event.kind in ("turn.started", "turn.restarted"):
            self.turn, self.conversation = data["turn"], data["conversation"]
            self.text, self.message = "", None
        elif event.kind == "message.delta":
            self.text += data["text"]
        elif event.kind == "message.completed":
            self.message = data["message"]
        elif event.kind in ENDS:
            self.end, self.turn = event.kind, data["turn"]
