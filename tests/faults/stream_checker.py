"""A reader of one turn's event stream that records repeated, reordered and incomplete events."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson
import urllib3

FINAL_EVENTS = {"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"}


@dataclass
class StreamChecker:
    """The events of a turn received so far, from any server. `text` is that of the current attempt."""

    turn_id: str | None = None
    conversation_id: str | None = None
    last_sequence: int = 0
    text: str = ""
    message: dict[str, Any] | None = None
    turn: dict[str, Any] | None = None
    final_event: str | None = None
    errors: list[str] = field(default_factory=list)

    def add(self, sequence: int, kind: str, data: dict[str, Any]) -> None:
        """Record one event, and an error if it must not come at this point."""
        if sequence <= self.last_sequence:
            self.errors.append(f"event {sequence} ({kind}) after {self.last_sequence} of turn {self.turn_id}")
        if self.final_event is not None:
            self.errors.append(f"{kind} after {self.final_event} of turn {self.turn_id}")
        self.last_sequence = sequence
        if kind in ("turn.started", "turn.restarted"):
            self.turn_id, self.conversation_id = data["turn"]["id"], data["turn"]["conversation_id"]
            self.text, self.message = "", None
        elif kind == "message.delta":
            self.text += data["text"]
        elif kind == "message.completed":
            self.message = data["message"]
            if self.message["content"] != self.text:
                self.errors.append(f"deltas differ from the message: {self.text!r}, {self.message}")
        elif kind in FINAL_EVENTS:
            self.final_event, self.turn = kind, data["turn"]

    def feed(self, data: bytes) -> None:
        """Record all events in `data`, which ends with a complete event."""
        for block in data.split(b"\n\n"):
            if event := _event(block):
                self.add(*event)

    def read(self, response: urllib3.BaseHTTPResponse, max_events: int | None = None) -> None:
        """Read a stream to its end, or close it after `max_events`. Raises urllib3's errors when it is cut."""
        for event in islice(_events(response), max_events):
            self.add(*event)
        if self.final_event is None:
            response.close()


def _events(response: urllib3.BaseHTTPResponse) -> Iterator[tuple[int, str, dict[str, Any]]]:
    rest = b""
    while data := response.read1(65_536):
        *blocks, rest = (rest + data).split(b"\n\n")
        for block in blocks:
            if event := _event(block):
                yield event


def _event(block: bytes) -> tuple[int, str, dict[str, Any]] | None:
    """Return sequence, type and data of an event; None for a comment."""
    lines = dict(line.split(b": ", 1) for line in block.split(b"\n") if line and not line.startswith(b":"))
    return (int(lines[b"id"]), lines[b"event"].decode(), orjson.loads(lines[b"data"])) if lines else None
