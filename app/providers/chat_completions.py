"""The client of OpenAI's chat completions API: one POST request, answered by a stream of events."""

import json
from collections.abc import Collection, Generator, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import Any, ClassVar

import orjson

from app.outbound.deadlines import Deadlines
from app.outbound.errors import OutboundError
from app.outbound.timeouts import Timeouts
from app.outbound.transport import Transport
from app.providers import official
from app.providers.answer import Answer
from app.providers.base import ChatMessage, ChatRequest, Provider, StreamEvent
from app.providers.failures import ErrorTranslator
from app.providers.listing import LIST_SECONDS, list_models
from app.providers.options import IMAGES, PARAMETERS, TOOLS, RejectedOptions, rejected_options
from app.providers.response_reader import RejectedInBand, ResponseReader
from app.text import clean_text


class ChatCompletions(Provider):
    """A provider at `base_url`. Subclasses set the attributes in which their servers differ.

    The openai package's own variables (OPENAI_ORG_ID, OPENAI_CUSTOM_HEADERS and so on) and the proxies of the
    environment are not used.
    """

    headers: ClassVar[dict[str, str]] = {}
    max_tokens = "max_tokens"  # the server's name of `max_output_tokens`
    ping_path = "models"  # a GET request that costs nothing and needs a valid key
    stream_options_optional = False  # whether the server may reject `stream_options`; the first request shows it

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None,
        model: str | None,
        timeouts: Timeouts,
        takes_images: bool = True,
    ) -> None:
        self.default_model = model or self.default_model
        self._takes_images = takes_images
        self.timeouts = timeouts
        self._base_url, self._key = base_url, api_key or ""
        self._request_usage = True
        self._rejected = RejectedOptions()
        self._transport = Transport(base_url, self._key, self.headers)

    @contextmanager
    def stream(self, request: ChatRequest) -> Iterator[Iterator[StreamEvent]]:
        """Answer as `Provider.stream` does.

        Bounds: 1 MiB for a line, 8 MiB for a JSON answer, TEXT_CHARS of text (then the finish reason is "length").
        """
        deadlines = Deadlines(self.timeouts, request.cancel_token, request.until)
        model = request.model or self.default_model
        texts = [text for message in request.messages if (text := message.text())]
        errors = ErrorTranslator(self.name, model, self._key, texts)
        reader = self._open(request, model, deadlines, errors)
        try:
            with closing(self._events(reader, request, model)) as events:
                yield events
        finally:
            reader.close()

    def cross_check(self, model: str, question: str, seconds: float) -> str | None:
        """Return the answer that OpenAI's own package gets. Raises `ProviderError`."""
        return official.cross_check(
            base_url=self._base_url, api_key=self._key, model=model, question=question, seconds=seconds
        )

    def models(self) -> list[str]:
        """Return the server's own list, read within LIST_SECONDS. Raises `ProviderError`."""
        times = Timeouts(min(self.timeouts.connect, LIST_SECONDS), LIST_SECONDS, LIST_SECONDS, LIST_SECONDS)
        return list_models(self._transport, Deadlines(times), ErrorTranslator(self.name, "", self._key, ()))

    def ping(self, seconds: float) -> None:
        """Check the status of a response to `ping_path`. Raises `ProviderError`.

        Not every server has a list of models, but each that needs a key checks it first.
        """
        deadlines = Deadlines(Timeouts(seconds, seconds, seconds, seconds))
        errors = ErrorTranslator(self.name, self.default_model, self._key, ())
        try:
            body = self._transport.get(self.ping_path, deadlines)
        except OutboundError as error:
            raise errors.from_outbound(error) from None
        error_body = body.read_error() if body.status >= HTTPStatus.BAD_REQUEST else b""
        body.close()
        if body.status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
            raise errors.from_status(body.status, body.headers, error_body)

    def _payload(
        self, request: ChatRequest, model: str, request_usage: bool, dropped: Collection[str]
    ) -> dict[str, Any]:
        payload: dict[str, Any] = {"model": model, "messages": [], "stream": True}
        with_images = IMAGES not in dropped
        payload["messages"] = [_message(message, with_images) for message in request.messages]
        if request_usage:
            payload["stream_options"] = {"include_usage": True}
        if request.tools and TOOLS not in dropped:
            payload["tools"] = list(request.tools)
            if request.answer_only:
                payload["tool_choice"] = "none"
        for option in _options(request):
            if option not in dropped:
                parameter = self.max_tokens if option == "max_output_tokens" else option
                payload[parameter] = request.options[option]
        return payload

    def _open(
        self,
        request: ChatRequest,
        model: str,
        deadlines: Deadlines,
        errors: ErrorTranslator,
        without: Collection[str] = (),
    ) -> ResponseReader:
        """Send the request, and return its response when the headers of a 200 or 201 have arrived.

        It is sent once more without usage, and once more without each option, the tools or the images, if the server
        rejects those; `without` are those that it has rejected already. Raises `ProviderError`.
        """
        request_usage, dropped = self._request_usage, self._dropped(request, model) | frozenset(without)
        while True:
            payload = _json(self._payload(request, model, request_usage, dropped))
            try:
                body = self._transport.post("chat/completions", payload, deadlines)
            except OutboundError as error:
                raise errors.from_outbound(error) from None
            if body.status in (HTTPStatus.OK, HTTPStatus.CREATED):  # some frameworks answer each POST with 201
                sent = _rejectable(request) - dropped
                return ResponseReader(body, Answer(model, tuple(sorted(dropped))), deadlines, errors, sent)
            error_body = body.read_error()
            body.close()
            if request_usage and self.stream_options_optional and _rejects_usage(body.status, error_body):
                self._request_usage = request_usage = False
                continue
            error_text = error_body.decode("utf-8", "replace")
            rejected = rejected_options(body.status, error_text, _rejectable(request) - dropped)
            if not rejected:
                raise errors.from_status(body.status, body.headers, error_body)
            self._keep_rejected(model, rejected)
            dropped |= rejected

    def _dropped(self, request: ChatRequest, model: str) -> frozenset[str]:
        """Return the parts of the request that are known to be rejected."""
        known = self._rejected.of(model) | (frozenset() if self._takes_images else {IMAGES})
        return known & _rejectable(request)

    def _keep_rejected(self, model: str, rejected: Collection[str]) -> None:
        """Keep what the model rejects, but not images: the cause may be one user's image."""
        self._rejected.add(model, [option for option in rejected if option != IMAGES])

    def _events(self, reader: ResponseReader, request: ChatRequest, model: str) -> Generator[StreamEvent]:
        """Yield the events of the answer. Some gateways reject an option inside a 200: then the request is repeated."""
        rejected = set[str]()
        while True:
            try:
                yield from reader.events()
            except RejectedInBand as rejection:
                self._keep_rejected(model, rejection.options)
                rejected |= set(rejection.options)
            else:
                return
            finally:
                reader.close()
            reader = self._open(request, model, reader.deadlines, reader.errors, rejected)


def _options(request: ChatRequest) -> list[str]:
    return [option for option in PARAMETERS if request.options.get(option) is not None]


def _rejectable(request: ChatRequest) -> set[str]:
    images = any(message.files and message.files.images for message in request.messages)
    return {*_options(request), *([TOOLS] if request.tools else ()), *([IMAGES] if images else ())}


def _rejects_usage(status: int, error_body: bytes) -> bool:
    return status in (400, 422) and any(name in error_body for name in (b"stream_options", b"include_usage"))


def _message(message: ChatMessage, with_images: bool) -> dict[str, Any]:
    payload: dict[str, Any] = {"role": message.role, "content": message.text(with_images=with_images)}
    if message.files is not None and message.files.images and with_images:
        images = [{"type": "image_url", "image_url": {"url": image.url}} for image in message.files.images]
        payload["content"] = [{"type": "text", "text": payload["content"]}, *images]
    if message.tool_calls:
        payload["tool_calls"] = message.tool_calls
    if message.tool_call_id is not None:
        payload["tool_call_id"] = message.tool_call_id
    return payload


def _json(payload: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(payload)
    except TypeError:  # a lone surrogate, or a number of more than 64 bits in a tool's schema
        return clean_text(json.dumps(payload, ensure_ascii=False)).encode()
