"""The client of everything that speaks OpenAI's chat completions: one POST, and a stream of events back."""

import json
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
from urllib3.exceptions import HTTPError

from app.errors import ProviderError
from app.providers.answer import Answer, SaidError
from app.providers.base import ChatMessage, ChatRequest, Provider, StreamEvent, TextDelta, Timeouts
from app.providers.deadlines import Deadlines
from app.providers.failures import Explainer
from app.providers.listing import LIST_SECONDS, list_models
from app.providers.sse import DONE, EventReader, NotUnderstood, lenient_json
from app.providers.transport import Body, Transport
from app.text import clean_text

JSON_BYTES = 8_388_608
AFTER_FINISH_SECONDS = 5


class ChatCompletions(Provider):
    """A provider at `base_url`. Subclasses say what is particular to theirs.

    A key goes where the settings say, with what they say: the openai package's own variables (OPENAI_ORG_ID,
    OPENAI_CUSTOM_HEADERS and so on) and the proxies of the environment are not used.
    """

    headers: ClassVar[dict[str, str]] = {}
    max_tokens = "max_tokens"  # what the server calls `max_output_tokens`
    asks_first = "models"  # what can be asked for that costs nothing, and that a wrong key does not get
    usage_is_optional = False  # whether the server may not know `stream_options`; found out with the first request

    def __init__(self, *, base_url: str, api_key: str | None, model: str | None, timeouts: Timeouts) -> None:
        self.default_model = model or self.default_model
        self.timeouts = timeouts
        self._base_url, self._key = base_url, api_key or ""
        self._asks_usage = True
        self._transport = Transport(base_url, self._key, self.headers)

    @contextmanager
    def stream(self, request: ChatRequest) -> Iterator[Iterator[StreamEvent]]:
        """See Provider. Bounds: 1 MiB a line, 8 MiB a whole JSON answer, TEXT_CHARS of text (then "length")."""
        deadlines = Deadlines(self.timeouts, self.name, request.hangup, request.until)
        model = request.model or self.default_model
        texts = [message.content for message in request.messages if message.content]
        explain = Explainer(self.name, model, self._key, texts, deadlines)
        body = self._open(request, model, deadlines, explain)
        reading = _Reading(body, Answer(model), deadlines, explain)
        try:
            with closing(reading.events()) as events:
                yield events
        finally:
            reading.leave()

    def second_opinion(self, model: str, question: str, seconds: float) -> str | None:
        """See Provider: OpenAI's own package asks."""
        from app.providers.official import second_opinion

        known = {"base_url": self._base_url, "api_key": self._key}
        return second_opinion(**known, model=model, question=question, seconds=seconds)

    def models(self) -> list[str]:
        """See Provider; from the server's own list, within LIST_SECONDS."""
        times = Timeouts(min(self.timeouts.connect, LIST_SECONDS), LIST_SECONDS, LIST_SECONDS, LIST_SECONDS)
        deadlines = Deadlines(times, self.name)
        return list_models(self._transport, deadlines, Explainer(self.name, "", self._key, (), deadlines))

    def ping(self, seconds: float) -> None:
        """The status of the answer is enough: not every server has a list of models, but each that wants a key looks at
        it first.
        """
        deadlines = Deadlines(Timeouts(seconds, seconds, seconds, seconds), self.name)
        explain = Explainer(self.name, self.default_model, self._key, (), deadlines)
        try:
            body = self._transport.get(self.asks_first, deadlines)
        except (HTTPError, OSError, UnicodeError) as error:
            raise explain.broken(error) from None
        refusal = body.read_error() if body.status >= HTTPStatus.BAD_REQUEST else b""
        body.close()
        if body.status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
            raise explain.status(body.status, body.headers, refusal)

    def _payload(self, request: ChatRequest, model: str, asks_usage: bool) -> dict[str, Any]:
        payload: dict[str, Any] = {"model": model, "messages": [_message(m) for m in request.messages], "stream": True}
        if asks_usage:
            payload["stream_options"] = {"include_usage": True}
        if request.tools:
            payload["tools"] = list(request.tools)
        for option, theirs in (
            ("temperature", "temperature"),
            ("top_p", "top_p"),
            ("max_output_tokens", self.max_tokens),
        ):
            if request.options.get(option) is not None:
                payload[theirs] = request.options[option]
        return payload

    def _open(self, request: ChatRequest, model: str, deadlines: Deadlines, explain: Explainer) -> Body:
        """Send the request; returns at a 200's headers, and raises a ProviderError for everything else."""
        asks_usage = self._asks_usage
        try:
            body = self._transport.post("chat/completions", _json(self._payload(request, model, asks_usage)), deadlines)
        except (HTTPError, OSError, UnicodeError) as error:
            raise explain.broken(error) from None
        if body.status == HTTPStatus.OK:
            return body
        refusal = body.read_error()
        body.close()
        if asks_usage and self.usage_is_optional and _refuses_usage(body.status, refusal):
            self._asks_usage = False
            return self._open(request, model, deadlines, explain)
        raise explain.status(body.status, body.headers, refusal)


class _Reading:
    """Reads one answer."""

    def __init__(self, body: Body, answer: Answer, deadlines: Deadlines, explain: Explainer) -> None:
        self._body = body
        self._kind = body.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._answer, self._deadlines, self._explain = answer, deadlines, explain
        self._whole = False

    def events(self) -> Generator[StreamEvent]:
        """The answer's events. Every failure is a ProviderError."""
        try:
            if self._kind == "application/json":  # some servers do not stream although they were asked to
                if text := self._answer.take(self._json()):
                    yield TextDelta(text)
            elif self._kind in ("text/event-stream", ""):
                yield from self._stream()
            else:
                raise NotUnderstood(f"answered with {clean_text(self._kind)[:50]} instead of a stream of events")
            yield self._answer.completed()
        except NotUnderstood as error:
            raise self._explain.bad_answer(str(error)) from None
        except SaidError as error:
            raise self._explain.inside(error.error) from None

    def leave(self) -> None:
        """Keep the connection if the answer came to its end, else cut it, so that the provider stops talking."""
        if self._whole:
            self._body.finish()
        else:
            self._body.close()

    def _stream(self) -> Iterator[StreamEvent]:
        reader, answer = EventReader(), self._answer
        while data := self._read():
            came = False
            for chunk in reader.feed(data):
                if chunk is DONE:
                    self._whole = True
                    return
                if text := answer.take(chunk):
                    yield TextDelta(text)
                if answer.full:
                    return
                came = True
            if came:  # comments and parts of a line do not put a deadline off
                self._next_deadline()
        for chunk in reader.end():
            if chunk is not DONE and (text := answer.take(chunk)):
                yield TextDelta(text)
            self._whole = self._whole or chunk is DONE
        if answer.finish_reason is None and not self._whole:
            raise NotUnderstood("ended its answer without its proper end")

    def _next_deadline(self) -> None:
        """Set after the reader of our events came back for more: the time it took is not the provider's."""
        if self._answer.finish_reason is not None:
            self._deadlines.ending(AFTER_FINISH_SECONDS)
        elif self._answer.began:
            self._deadlines.continuing()
        else:
            self._deadlines.thinking()

    def _read(self) -> bytes:
        try:
            return self._body.read()
        except (ProviderError, HTTPError, OSError) as error:
            if self._answer.finish_reason is not None:
                return b""  # the answer is whole, and paid for: only its epilogue is missing
            raise self._explain.broken(error) from None

    def _json(self) -> Any:
        parts: list[bytes] = []
        room = JSON_BYTES
        while data := self._read():
            parts.append(data)
            room -= len(data)
            if room < 0:
                raise NotUnderstood(f"answered with more than {JSON_BYTES} bytes")
        self._whole = True
        return lenient_json(b"".join(parts))


def _refuses_usage(status: int, refusal: bytes) -> bool:
    return status in (400, 422) and any(name in refusal for name in (b"stream_options", b"include_usage"))


def _message(message: ChatMessage) -> dict[str, Any]:
    payload: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        payload["tool_calls"] = message.tool_calls
    if message.tool_call_id is not None:
        payload["tool_call_id"] = message.tool_call_id
    return payload


def _json(payload: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(payload)
    except TypeError:  # a lone surrogate, or a number beyond 64 bits in a tool's schema
        return clean_text(json.dumps(payload, ensure_ascii=False)).encode()
