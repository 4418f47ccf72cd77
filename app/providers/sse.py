"""Server-sent events whose data is JSON: bytes in, objects out, split wherever the network pleased."""

import json
from collections.abc import Iterator
from typing import Any, Final

import orjson

LINE_BYTES = 1_048_576
_BOM = b"\xef\xbb\xbf"
DONE: Final = {"[DONE]": True}


class NotUnderstood(Exception):
    """The stream is not what it should be; the message says how, without quoting it."""


class EventReader:
    """One stream. `feed` takes bytes as they come; `end` says that no more will.

    A line, and the data of one event, may have up to LINE_BYTES. Comments, other fields and a byte order mark at the
    start are skipped. LF, CR LF and CR end a line (WHATWG HTML, section 9.2.6).
    """

    def __init__(self) -> None:
        self._start: bytes | None = b""  # until it is known whether there is a mark
        self._after_cr = False
        self._rest: list[bytes] = []  # pieces of the line that is not complete yet, joined only once it is
        self._rest_bytes = 0
        self._data: list[bytes] = []  # data lines that are no JSON by themselves: parts of one, or damaged
        self._data_bytes = 0

    def feed(self, data: bytes) -> Iterator[Any]:
        """The events that `data` completes: objects, and DONE (the very object) at the end."""
        if self._start is not None:
            data = self._without_mark(self._start + data)
        if self._after_cr or b"\r" in data:
            data = self._with_plain_ends(data)
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
            elif self._data and not line:
                yield self._held()

    def end(self) -> Iterator[Any]:
        """What a stream without a last newline still holds."""
        yield from self.feed(b"\n\n")

    def _without_mark(self, data: bytes) -> bytes:
        """The first bytes of the stream; nothing as long as they may be a part of the mark."""
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(_BOM)

    def _with_plain_ends(self, data: bytes) -> bytes:
        """`data` with LF for each end of a line; a CR ends its line at once, so an LF that comes later ends nothing."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = self._after_cr or data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

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
    """JSON that may contain a mark, invalid UTF-8 or lone surrogates, which orjson refuses; raises NotUnderstood."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        raise NotUnderstood("sent something that is not JSON") from None
