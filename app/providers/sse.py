"""Server-sent events whose data is JSON: bytes in, objects out, split wherever the network pleased."""

import json
from collections.abc import Iterator
from typing import Any, Final

import orjson

LINE_BYTES = 1_048_576
DONE: Final = {"[DONE]": True}


class NotUnderstood(Exception):
    """The stream is not what it should be; the message says how, without quoting it."""


class EventReader:
    """One stream. `feed` takes bytes as they come; `end` says that no more will.

    A line, and the data of one event, may have up to LINE_BYTES. Comments and other fields are skipped.
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # pieces of the line that is not complete yet, joined only once it is
        self._rest_bytes = 0
        self._data: list[bytes] = []  # data lines that are no JSON by themselves: parts of one, or damaged
        self._data_bytes = 0

    def feed(self, data: bytes) -> Iterator[Any]:
        """The events that `data` completes: objects, and DONE (the very object) at the end."""
        if b"\n" not in data:
            self._keep(data)
            return
        if self._rest:
            data = b"".join([*self._rest, data])
            self._rest, self._rest_bytes = [], 0
        lines = data.split(b"\n")
        self._keep(lines.pop())
        for line in lines:
            if line.startswith(b"data:"):
                payload = line[5:]
                if not self._data:
                    # A part of a JSON object is never JSON itself: what parses is whole, whether a blank line follows
                    # or not.
                    try:
                        yield orjson.loads(payload)
                        continue
                    except orjson.JSONDecodeError:
                        word = payload.strip()
                    if word == b"[DONE]":
                        yield DONE
                        continue
                    if not word:
                        continue
                self._hold(payload)
            elif self._data and line in (b"", b"\r"):
                yield self._held()

    def end(self) -> Iterator[Any]:
        """What a stream without a last newline still holds."""
        yield from self.feed(b"\n\n")

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._rest.append(piece)
            self._rest_bytes += len(piece)
            if self._rest_bytes > LINE_BYTES:
                raise NotUnderstood(f"sent a line longer than {LINE_BYTES} bytes")

    def _hold(self, payload: bytes) -> None:
        self._data.append(payload)
        self._data_bytes += len(payload)
        if self._data_bytes > LINE_BYTES:
            raise NotUnderstood(f"sent an event longer than {LINE_BYTES} bytes")

    def _held(self) -> Any:
        data, self._data, self._data_bytes = b"\n".join(self._data), [], 0
        return lenient_json(data)


def lenient_json(data: bytes) -> Any:
    """JSON that may contain invalid UTF-8 or lone surrogates, which orjson refuses; raises NotUnderstood."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise NotUnderstood("sent something that is not JSON") from None
