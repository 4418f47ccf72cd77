"""The response of a provider to one request: a stream of events, or one JSON object."""

import re
from collections.abc import Collection, Generator, Iterator
from typing import Any

from app.outbound.deadlines import Deadlines
from app.outbound.errors import OutboundError
from app.outbound.transport import Body
from app.providers.answer import Answer, InBandError
from app.providers.base import StreamEvent, TextDelta
from app.providers.error_bodies import json_text
from app.providers.failures import ErrorTranslator
from app.providers.options import rejected_options
from app.providers.sse import BOM, DONE, EventReader, ProtocolError, json_documents

JSON_BYTES = 8_388_608
AFTER_FINISH_SECONDS = 5
TEXT_BYTES = 2048  # of a body that is no answer, for the log
START_BYTES = 65_536  # of white space and comments before an answer, which some gateways send to keep a connection open
_COMMENTS = re.compile(rb"\A(?:\s*:[^\r\n]*[\r\n])+")
_FIELD = re.compile(rb"^(?:data|event|id|retry):", re.MULTILINE)


class RejectedInBand(Exception):  # not a failure of the call: the request is repeated without `options`
    """The server rejects options of the request inside a 200, before the answer began."""

    def __init__(self, options: Collection[str]) -> None:
        super().__init__("the server rejects options")
        self.options = options


class ResponseReader:
    """The events of one response."""

    def __init__(
        self,
        body: Body,
        answer: Answer,
        deadlines: Deadlines,
        errors: ErrorTranslator,
        sent_options: Collection[str] = (),
    ) -> None:
        self._body, self._answer, self._sent_options = body, answer, sent_options
        self._kind = body.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.deadlines, self.errors = deadlines, errors
        self._complete = self._closed = False

    def events(self) -> Generator[StreamEvent]:
        """Yield the answer's events. Raises `ProviderError`, and `RejectedInBand` before the first event."""
        try:
            start = self._start()
            # The body decides, because labels are often wrong: servers that ignore `stream`, and proxies.
            if start.lstrip()[:1] in (b"{", b"["):
                yield from self._json(start)
            elif _FIELD.search(start) or self._kind in ("text/event-stream", ""):
                yield from self._stream(start)
            elif self._kind == "application/json":
                raise ProtocolError("sent something that is not JSON", reason=self._rest_of_text(start))
            else:
                raise ProtocolError(
                    "answered with something else than a stream of events",
                    reason=f"Content-Type: {self._kind}; {self._rest_of_text(start)}",
                )
            if text := self._answer.flush():
                yield TextDelta(text)
            yield self._answer.completed()
        except ProtocolError as error:
            raise self.errors.protocol_error(str(error), error.reason) from None
        except InBandError as error:
            if not self._answer.began and (rejected := self._rejected_options(error.error)):
                raise RejectedInBand(rejected) from None
            raise self.errors.from_in_band(error.error, error.problem) from None

    def _rejected_options(self, error: Any) -> frozenset[str]:
        return rejected_options(400, json_text(error), self._sent_options)

    def _start(self) -> bytes:
        """Return the first bytes of the body, from the first that is neither white space nor a comment if there is any.

        Some gateways send those to keep a connection open.
        """
        received = start = b""
        while len(received) < START_BYTES and (data := self._read()):
            received += data
            start = _COMMENTS.sub(b"", received.removeprefix(BOM), count=1)
            if start.strip() and not start.lstrip().startswith(b":"):
                break
        return start

    def _rest_of_text(self, start: bytes) -> str:
        """Return the first characters of a body that is no answer: a page of a proxy, or the reason in plain text."""
        text = start
        while len(text) < TEXT_BYTES and (data := self._read()):
            text += data
        return text[:TEXT_BYTES].decode("utf-8", "replace")

    def close(self) -> None:
        """Keep the connection if the answer is complete, else close it, so that the provider stops generating."""
        if self._closed:
            return
        self._closed = True
        if self._complete:
            self._body.finish()
        else:
            self._body.close()

    def _stream(self, start: bytes) -> Iterator[StreamEvent]:
        reader, answer = EventReader(), self._answer
        data = start
        while data:
            has_events = False
            for chunk in self._chunks(reader.feed(data)):
                if chunk is DONE:
                    self._complete = True
                    return
                if text := answer.add(chunk):
                    yield TextDelta(text)
                if answer.full:
                    return
                has_events = True
            if has_events:  # comments and parts of a line do not extend a deadline
                self._next_deadline()
            data = self._read()
        for chunk in self._chunks(reader.end()):
            if chunk is not DONE and (text := answer.add(chunk)):
                yield TextDelta(text)
            self._complete = self._complete or chunk is DONE
        if answer.finish_reason is None and not self._complete:
            answer.raise_unfinished("ended its answer without an end marker")

    def _chunks(self, chunks: Iterator[Any]) -> Iterator[Any]:
        """Yield the chunks. What cannot be read is skipped once the finish reason is known: the content is complete."""
        while True:
            try:
                yield next(chunks)
            except StopIteration:
                return
            except ProtocolError:
                if self._answer.finish_reason is None:
                    raise
                yield DONE
                return

    def _next_deadline(self) -> None:
        """Set the deadline of the next event, after the consumer has used the last ones: its time does not count."""
        if self._answer.finish_reason is not None:
            self.deadlines.expect_end(AFTER_FINISH_SECONDS)
        elif self._answer.began:
            self.deadlines.expect_next_event()
        else:
            self.deadlines.expect_content()

    def _read(self) -> bytes:
        try:
            return self._body.read()
        except OutboundError as error:
            if self._answer.finish_reason is not None:
                return b""  # the content is complete; only the end marker and the usage are missing
            raise self.errors.from_outbound(error) from None

    def _json(self, start: bytes) -> Iterator[StreamEvent]:
        """Yield the text of a JSON object, or of several, one after the other."""
        parts, size = [start], len(start)
        while data := self._read():
            parts.append(data)
            size += len(data)
            if size > JSON_BYTES:
                raise ProtocolError(f"answered with more than {JSON_BYTES} bytes")
        for chunk in self._chunks(json_documents(b"".join(parts))):
            if chunk is not DONE and (text := self._answer.add(chunk)):
                yield TextDelta(text)
        self._complete = True
