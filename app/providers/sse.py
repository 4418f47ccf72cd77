"""A parser of server-sent events whose data is JSON. Input may be split at any byte."""

import json
from collections.abc import Iterator
from typing import Any, Final

import orjson

LINE_BYTES = 1_048_576
BOM = b"\xef\xbb\xbf"
DONE: Final = {"[DONE]": True}
PINGS = frozenset({b"ping", b"heartbeat", b"keepalive", b"keep-alive"})


class ProtocolError(Exception):
    """The stream violates the protocol. The message is a predicate and does not quote the stream; `reason` may."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class EventReader:
    """The parser of one stream. Call `feed` with bytes as they arrive, then `end`.

    A line, and the data of one event, may have up to LINE_BYTES. Comments, other fields and a byte order mark at the
    start are skipped. LF, CR LF and CR end a line (WHATWG HTML, section 9.2.6).
    """

    def __init__(self) -> None:
        self._start: bytes | None = b""  # None as soon as the byte order mark is present or excluded
        self._after_cr = False
        self._rest: list[bytes] = []  # pieces of the incomplete line, joined when it is complete
        self._rest_bytes = 0
        self._data: list[bytes] = []  # data lines that are not JSON alone: parts of a document, or damaged
        self._data_bytes = 0
        self._event = b""  # the name of the current event

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the events that `data` completes: decoded JSON, and the object DONE itself at the end.

        The data of an event named `error` is yielded as `{"error": data}`. Events named as in PINGS are skipped.
        """
        if self._start is not None:
            data = self._strip_mark(self._start + data)
        if self._after_cr or b"\r" in data:
            data = self._normalize_line_ends(data)
        if b"\n" not in data:
            self._append_rest(data)
            return
        if self._rest:
            data = b"".join([*self._rest, data])
            self._rest, self._rest_bytes = [], 0
        lines = data.split(b"\n")
        self._append_rest(lines.pop())
        for line in lines:
            if line.startswith(b"data:"):
                payload = line[5:]
                if self._event in PINGS:
                    continue
                if not self._data:
                    # A part of a JSON object is never valid JSON, so a line that parses is complete without a blank
                    # line after it.
                    try:
                        yield self._named(orjson.loads(payload))
                        continue
                    except orjson.JSONDecodeError:
                        word = payload.strip()
                    if word == b"[DONE]":
                        yield DONE
                        continue
                    if not word or word.lower() in PINGS or word.startswith(b":"):
                        continue
                self._append_data(payload)
            elif line.startswith(b"event:"):
                self._event = line[6:].strip().lower()
            elif not line:
                if self._data:
                    yield self._named(self._joined_data())
                self._event = b""

    def end(self) -> Iterator[Any]:
        """Yield the events that a stream without a final newline still holds."""
        yield from self.feed(b"\n\n")

    def _strip_mark(self, data: bytes) -> bytes:
        """Remove a byte order mark. Returns nothing as long as the first bytes may be a part of it."""
        if len(data) < len(BOM) and BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(BOM)

    def _normalize_line_ends(self, data: bytes) -> bytes:
        """Replace each line end by LF. A CR ends its line at once, so a following LF is dropped."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = self._after_cr or data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _append_rest(self, piece: bytes) -> None:
        if piece:
            self._rest.append(piece)
            self._rest_bytes += len(piece)
            if self._rest_bytes > LINE_BYTES:
                raise ProtocolError(f"sent a line longer than {LINE_BYTES} bytes")

    def _append_data(self, payload: bytes) -> None:
        self._data.append(payload)
        self._data_bytes += len(payload)
        if self._data_bytes > LINE_BYTES:
            raise ProtocolError(f"sent an event longer than {LINE_BYTES} bytes")

    def _named(self, data: Any) -> Any:
        return {"error": data} if self._event == b"error" and data else data

    def _joined_data(self) -> Any:
        data, self._data, self._data_bytes = b"\n".join(self._data), [], 0
        try:
            return lenient_json(data)
        except ProtocolError:
            if self._event == b"error":  # a reason in plain text
                return data.decode("utf-8", "replace").strip()
            raise


def lenient_json(data: bytes) -> Any:
    """Decode JSON with a byte order mark, invalid UTF-8 or lone surrogates too, which orjson rejects.

    Raises `ProtocolError`.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        raise ProtocolError("sent something that is not JSON") from None


def json_documents(data: bytes) -> Iterator[Any]:
    """Yield the JSON documents of a body: one, or several on lines of their own, or one before an end marker.

    Raises `ProtocolError` at the first that cannot be read.
    """
    try:
        yield lenient_json(data)
    except ProtocolError:
        text, decoder = data.decode("utf-8-sig", "replace").strip(), json.JSONDecoder()
        while text:
            try:
                document, end = decoder.raw_decode(text)
            except (ValueError, RecursionError):
                raise ProtocolError("sent something that is not JSON") from None
            yield document
            text = text[end:].lstrip()
