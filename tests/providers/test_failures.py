"""Each failure of a provider becomes a ProviderError without secrets."""

import math
import socket
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from app.errors import (
    ProviderError,
    ProviderMisconfigured,
    ProviderOverloaded,
    ProviderProtocolError,
    ProviderUnreachable,
)
from app.providers.base import ChatMessage, ChatRequest
from app.providers.chat_completions import ChatCompletions
from app.providers.failures import MESSAGE_CHARS, retry_after
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.providers.conftest import KEY, MakeProvider, Received, read_answer

LEAK = f"key {KEY}, Bearer abc.def, sk-other***key"


def failure(
    provider: ChatCompletions, request: ChatRequest | None = None, received: Received | None = None
) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        read_answer(provider, request or ChatRequest([ChatMessage("user", "hello")]), received)
    return caught.value


FAILURES: list[tuple[Script, type[ProviderError], str]] = [
    (scripts.api_error(400, "bad temperature"), ProviderMisconfigured, "bad temperature"),
    (scripts.api_error(401), ProviderMisconfigured, "rejected the key"),
    (scripts.api_error(402), ProviderMisconfigured, "no credit"),
    (scripts.api_error(403), ProviderMisconfigured, "does not allow"),
    (scripts.api_error(404), ProviderMisconfigured, "model fake-model"),
    (scripts.api_error(405), ProviderMisconfigured, "405"),
    (scripts.api_error(413), ProviderMisconfigured, "too large"),
    (scripts.api_error(422, "unknown field"), ProviderMisconfigured, "unknown field"),
    (scripts.api_error(400, "x", code="context_length_exceeded"), ProviderMisconfigured, "longer than the context"),
    (
        scripts.api_error(400, "This model's maximum context length is 8"),
        ProviderMisconfigured,
        "longer than the context",
    ),
    (scripts.api_error(429, code="insufficient_quota"), ProviderMisconfigured, "no credit"),
    (scripts.api_error(408), ProviderUnreachable, "408"),
    (scripts.api_error(409), ProviderProtocolError, "409"),
    (scripts.api_error(429), ProviderOverloaded, "limiting"),
    (scripts.api_error(500), ProviderProtocolError, "500"),
    (scripts.api_error(502), ProviderUnreachable, "502"),
    (scripts.api_error(503), ProviderOverloaded, "overloaded"),
    (scripts.api_error(504), ProviderUnreachable, "504"),
    (scripts.status(500, "<html>Internal Server Error</html>"), ProviderProtocolError, "500"),
    (scripts.status(500, ["no object"]), ProviderProtocolError, "500"),
    (scripts.status(404, {"error": "model 'x' not found"}), ProviderMisconfigured, "model 'x' not found"),
    (scripts.status(404, {"object": "error", "message": "old shape"}), ProviderMisconfigured, "old shape"),
    (scripts.status(422, {"detail": [{"msg": "field required"}]}), ProviderMisconfigured, "field required"),
    (scripts.status(302, headers={"Location": "http://127.0.0.1:9/stolen"}), ProviderMisconfigured, "not followed"),
    (scripts.status(202, {}), ProviderProtocolError, "202"),
    (scripts.status(201, {}), ProviderProtocolError, "without any content"),
    (scripts.status(200, "<html>a login page</html>"), ProviderProtocolError, "text/html"),
    (scripts.status(200, {"error": {"message": "quota", "code": 429}}), ProviderOverloaded, "quota"),
    (scripts.status(200, {"choices": []}), ProviderProtocolError, "without any content"),
    (scripts.status(200, ["no object"]), ProviderProtocolError, "without any content"),
    (scripts.raw(b"not json", "application/json"), ProviderProtocolError, "not JSON"),
    (scripts.raw(b"{" + b"x" * 8_400_000, "application/json"), ProviderProtocolError, "8388608"),
    (scripts.raw(b"data: {garbage\n\n"), ProviderProtocolError, "not JSON"),
    (scripts.raw(b"data: " + b"[" * 100_000 + b"\n\n"), ProviderProtocolError, "not JSON"),
    (scripts.raw(b"data: 42\n\n"), ProviderProtocolError, "end marker"),
    (scripts.raw(b'data: {"hello": "you"}\n\n'), ProviderProtocolError, "end marker"),
    (scripts.raw(b'data: {"choices": [null]}\n\n'), ProviderProtocolError, "end marker"),
    (scripts.raw(b'data: {"choices": {"a": 1}}\n\n'), ProviderProtocolError, "end marker"),
    (scripts.raw(b'data: {"choices": [{"delta": {"content": 7}}]}\n\n'), ProviderProtocolError, "end marker"),
    (scripts.raw(b'data: {"choices": [{"delta": {"tool_calls": 7}}]}\n\n'), ProviderProtocolError, "not a chat"),
    (scripts.raw(b"data: [DONE]\n\n"), ProviderProtocolError, "without any content"),
    (scripts.raw(b""), ProviderProtocolError, "end marker"),
    (scripts.raw(b"<html>in a stream</html>\n"), ProviderProtocolError, "end marker"),
    (scripts.raw(b"data: a\n" * 600_000), ProviderProtocolError, "1048576"),
    (scripts.endless_line(), ProviderProtocolError, "1048576"),
    (scripts.not_http(), ProviderProtocolError, "not HTTP"),
    (scripts.reset(), ProviderUnreachable, "broke the connection"),
    (scripts.error_in_stream(429, after=0), ProviderOverloaded, "429"),
    (scripts.error_in_stream("server_error"), ProviderProtocolError, "reports a failure"),
    (scripts.error_in_stream(None, "internal failure"), ProviderProtocolError, "internal failure"),
    (scripts.error_in_stream("rate_limit_exceeded"), ProviderOverloaded, "limiting"),
    (scripts.raw(b'data: {"error": "just words"}\n\n'), ProviderProtocolError, "reports a failure"),
    (scripts.raw(b'data: {"choices":[{"delta":{},"finish_reason":"error"}]}\n\n'), ProviderProtocolError, "reports"),
    (scripts.error_in_stream(401), ProviderMisconfigured, "key"),
]


@pytest.mark.parametrize(("script", "kind", "text"), FAILURES)
def test_failure_becomes_provider_error(
    upstream: Upstream, provider: ChatCompletions, script: Script, kind: type[ProviderError], text: str
) -> None:
    upstream.script = script
    error = failure(provider)
    assert type(error) is kind
    assert text in error.full_detail
    assert "compatible" in error.detail, "it names the provider"
    assert "Its message: " not in error.detail
    upstream.wait_for(lambda: upstream.open_streams == 0)


@pytest.mark.parametrize(
    ("how", "kind"), [("close", ProviderUnreachable), ("reset", ProviderUnreachable), ("clean", ProviderProtocolError)]
)
def test_broken_stream_keeps_received_text(
    upstream: Upstream, provider: ChatCompletions, how: str, kind: type[ProviderError]
) -> None:
    upstream.script = scripts.cut(2, how)
    received = Received()
    assert type(failure(provider, received=received)) is kind
    assert received.text == "word0 word1 "


@pytest.mark.parametrize("how", ["close", "reset"])
def test_break_after_finish_reason_loses_nothing(upstream: Upstream, provider: ChatCompletions, how: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"content": "all of it"}, "stop"))
        if how == "reset":
            await exchange.pause(0.05)
            exchange.connection.abort()

    upstream.script = script
    assert read_answer(provider).text == "all of it"


def test_invalid_chunk_size_is_an_error(upstream: Upstream, provider: ChatCompletions) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.write(b"zz\r\nnot hexadecimal\r\n")

    upstream.script = script
    assert isinstance(failure(provider), ProviderUnreachable | ProviderProtocolError)


def test_endless_headers_are_an_error(upstream: Upstream, provider: ChatCompletions) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 200 OK\r\n" + b"X-More: more\r\n" * 500 + b"\r\n")

    upstream.script = script
    assert type(failure(provider)) is ProviderProtocolError


def test_compressed_stream_is_decompressed_or_rejected(upstream: Upstream, provider: ChatCompletions) -> None:
    import gzip

    good = (scripts.STREAMS / "openai_text.sse").read_bytes()

    def compressed(data: bytes) -> Script:
        async def script(exchange: Exchange) -> None:
            await exchange.head(headers={"Content-Encoding": "gzip"})
            await exchange.send(data)
            await exchange.end()

        return script

    upstream.queue_scripts(compressed(gzip.compress(good)), compressed(b"\x1f\x8b damaged"))
    assert read_answer(provider).text.startswith("Paris")
    assert type(failure(provider)) is ProviderProtocolError


def test_refused_connection_is_unreachable(make_provider: MakeProvider) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = failure(make_provider(url=f"http://127.0.0.1:{port}/v1"))
    assert type(error) is ProviderUnreachable
    assert "refused the connection" in error.detail


def test_unknown_host_is_unreachable(make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    provider = make_provider(url="http://provider.invalid/v1")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = failure(provider)
    assert type(error) is ProviderUnreachable
    assert "cannot be resolved" in error.detail


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("1.2", 2),
        ("-5", 0),
        ("99999999", 3600),
        ("1e999", 3600),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_parsed(upstream: Upstream, provider: ChatCompletions, value: str, seconds: int | None) -> None:
    upstream.script = scripts.api_error(429, headers={"Retry-After": value})
    assert failure(provider).retry_after == seconds


def test_retry_after_as_future_date_is_parsed() -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=100)
    seconds = retry_after({"retry-after": format_datetime(ahead, usegmt=True)})
    assert seconds is not None
    assert math.isclose(seconds, 99, abs_tol=2)


def full_text(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(vars(error))


LEAKS: list[Callable[[str], Script]] = [
    lambda text: scripts.api_error(400, text),
    lambda text: scripts.api_error(401, text, headers={"X-Echo": text}),
    lambda text: scripts.api_error(429, text),
    lambda text: scripts.api_error(500, text),
    lambda text: scripts.status(500, text),
    lambda text: scripts.error_in_stream(502, text),
    lambda text: scripts.raw(b"data: " + text.encode() + b"\n\n"),
    lambda text: scripts.raw(b"{}", "text/plain"),
    lambda text: scripts.cut(),
    lambda text: scripts.reset(),
    lambda text: scripts.not_http(),
]


@pytest.mark.parametrize("make", LEAKS)
def test_error_shows_no_key(upstream: Upstream, provider: ChatCompletions, make: Callable[[str], Script]) -> None:
    upstream.script = make(LEAK)
    shown = full_text(failure(provider)) + repr(provider) + str(provider)
    assert KEY not in shown
    assert "abc.def" not in shown
    assert "sk-other" not in shown
    assert "uthorization" not in shown


def test_error_shows_no_user_text(upstream: Upstream, provider: ChatCompletions) -> None:
    secret = "my account number is DE89 3704 0044 0532 0130 00"
    message = "invalid content: 'number is DE89 3704 0044 0532 0130' at messages[0]"
    upstream.script = scripts.api_error(400, message)
    assert "DE89" not in full_text(failure(provider, ChatRequest([ChatMessage("user", secret)])))
    upstream.script = scripts.api_error(400, "cannot handle 'pin 1234'")
    assert "1234" not in full_text(failure(provider, ChatRequest([ChatMessage("user", "pin 1234")])))


def test_provider_message_is_shortened_and_cleaned(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.api_error(400, "nul \x00 and\nlines " + "long " * 2000)
    reason = failure(provider).reason
    assert len(reason) == MESSAGE_CHARS
    assert "\x00" not in reason
    assert "\n" not in reason
