"""Somebody who listens to one turn, from whichever server, and notices what is told twice, out of order or torn."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson
import urllib3

LAST = {"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"}


@dataclass
class Ear:
    """What has been heard of a turn. `text` is of the attempt that is being told; `ending` is its last event."""

    turn_id: str | None = None
    conversation_id: str | None = None
    last: int = 0
    text: str = ""
    message: dict[str, Any] | None = None
    turn: dict[str, Any] | None = None
    ending: str | None = None
    wrong: list[str] = field(default_factory=list)

    def hear(self, sequence: int, kind: str, data: dict[str, Any]) -> None:
        """Take one event in."""
        if sequence <= self.last:
            self.wrong.append(f"event {sequence} ({kind}) after {self.last} of turn {self.turn_id}")
        if self.ending is not None:
            self.wrong.append(f"{kind} after {self.ending} of turn {self.turn_id}")
        self.last = sequence
        if kind in ("turn.started", "turn.restarted"):
            self.turn_id, self.conversation_id = data["turn"]["id"], data["turn"]["conversation_id"]
            self.text, self.message = "", None
        elif kind == "message.delta":
            self.text += data["text"]
        elif kind == "message.completed":
            self.message = data["message"]
            if self.message["content"] != self.text:
                self.wrong.append(f"pieces that are not the whole: {self.text!r}, {self.message}")
        elif kind in LAST:
            self.ending, self.turn = kind, data["turn"]

    def take(self, data: bytes) -> None:
        """Hear a whole stream."""
        for block in data.split(b"\n\n"):
            if event := _event(block):
                self.hear(*event)

    def listen(self, response: urllib3.BaseHTTPResponse, most: int | None = None) -> None:
        """Hear a stream as far as it goes, or leave after so many events. Raises what urllib3 raises when it is cut."""
        for event in islice(_events(response), most):
            self.hear(*event)
        if self.ending is None:
            response.close()


def _events(response: urllib3.BaseHTTPResponse) -> Iterator[tuple[int, str, dict[str, Any]]]:
    rest = b""
    while piece := response.read1(65_536):
        *blocks, rest = (rest + piece).split(b"\n\n")
        for block in blocks:
            if event := _event(block):
                yield event


def _event(block: bytes) -> tuple[int, str, dict[str, Any]] | None:
    """None for a comment."""
    lines = dict(line.split(b": ", 1) for line in block.split(b"\n") if line and not line.startswith(b":"))
    return (int(lines[b"id"]), lines[b"event"].decode(), orjson.loads(lines[b"data"])) if lines else None
