"""Whatever a provider does wrong becomes one of our errors, in our words, without a secret in them."""

import math
import socket
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from app.errors import (
    ProviderBadAnswer,
    ProviderError,
    ProviderMisconfigured,
    ProviderOverloaded,
    ProviderUnreachable,
)
from app.providers.base import ChatMessage, ChatRequest
from app.providers.chat_completions import ChatCompletions
from app.providers.failures import retry_after
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.providers.conftest import KEY, Heard, MakeProvider, listen

LEAK = f"key {KEY}, Bearer abc.def, sk-other***key"


def failure(provider: ChatCompletions, request: ChatRequest | None = None, heard: Heard | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        listen(provider, request or ChatRequest([ChatMessage("user", "hello")]), heard)
    return caught.value


STATUSES: list[tuple[Script, type[ProviderError], str]] = [
    (scripts.refusal(400, "bad temperature"), ProviderMisconfigured, "bad temperature"),
    (scripts.refusal(401), ProviderMisconfigured, "refused the key"),
    (scripts.refusal(402), ProviderMisconfigured, "no credit"),
    (scripts.refusal(403), ProviderMisconfigured, "does not allow"),
    (scripts.refusal(404), ProviderMisconfigured, "model fake-model"),
    (scripts.refusal(405), ProviderMisconfigured, "405"),
    (scripts.refusal(413), ProviderMisconfigured, "too large"),
    (scripts.refusal(422, "unknown field"), ProviderMisconfigured, "unknown field"),
    (scripts.refusal(400, "x", code="context_length_exceeded"), ProviderMisconfigured, "longer than the model"),
    (scripts.refusal(400, "This model's maximum context length is 8"), ProviderMisconfigured, "longer than the model"),
    (scripts.refusal(429, code="insufficient_quota"), ProviderMisconfigured, "no credit"),
    (scripts.refusal(408), ProviderUnreachable, "408"),
    (scripts.refusal(409), ProviderBadAnswer, "409"),
    (scripts.refusal(429), ProviderOverloaded, "limiting"),
    (scripts.refusal(500), ProviderBadAnswer, "500"),
    (scripts.refusal(502), ProviderUnreachable, "502"),
    (scripts.refusal(503), ProviderOverloaded, "overloaded"),
    (scripts.refusal(504), ProviderUnreachable, "504"),
    (scripts.status(500, "<html>Internal Server Error</html>"), ProviderBadAnswer, "500"),
    (scripts.status(500, ["no object"]), ProviderBadAnswer, "500"),
    (scripts.status(404, {"error": "model 'x' not found"}), ProviderMisconfigured, "model 'x' not found"),
    (scripts.status(404, {"object": "error", "message": "old shape"}), ProviderMisconfigured, "old shape"),
    (scripts.status(422, {"detail": [{"msg": "field required"}]}), ProviderMisconfigured, "field required"),
    (scripts.status(302, headers={"Location": "http://127.0.0.1:9/stolen"}), ProviderMisconfigured, "not followed"),
    (scripts.status(201, {}), ProviderBadAnswer, "201"),
    (scripts.status(200, "<html>a login page</html>"), ProviderBadAnswer, "text/html"),
    (scripts.status(200, {"error": {"message": "quota", "code": 429}}), ProviderOverloaded, "quota"),
    (scripts.status(200, {"choices": []}), ProviderBadAnswer, "without saying anything"),
    (scripts.status(200, ["no object"]), ProviderBadAnswer, "not a chat completion"),
    (scripts.raw(b"not json", "application/json"), ProviderBadAnswer, "not JSON"),
    (scripts.raw(b"x" * 8_400_000, "application/json"), ProviderBadAnswer, "8388608"),
    (scripts.raw(b"data: {garbage\n\n"), ProviderBadAnswer, "not JSON"),
    (scripts.raw(b"data: " + b"[" * 100_000 + b"\n\n"), ProviderBadAnswer, "not JSON"),
    (scripts.raw(b"data: 42\n\n"), ProviderBadAnswer, "not a chat completion"),
    (scripts.raw(b'data: {"hello": "you"}\n\n'), ProviderBadAnswer, "not a chat completion"),
    (scripts.raw(b'data: {"choices": [null]}\n\n'), ProviderBadAnswer, "not a chat completion"),
    (scripts.raw(b'data: {"choices": {"a": 1}}\n\n'), ProviderBadAnswer, "not a chat completion"),
    (scripts.raw(b'data: {"choices": [{"delta": {"content": 7}}]}\n\n'), ProviderBadAnswer, "not a chat completion"),
    (scripts.raw(b"data: [DONE]\n\n"), ProviderBadAnswer, "without saying anything"),
    (scripts.raw(b""), ProviderBadAnswer, "proper end"),
    (scripts.raw(b"<html>in a stream</html>\n"), ProviderBadAnswer, "proper end"),
    (scripts.raw(b"data: a\n" * 600_000), ProviderBadAnswer, "1048576"),
    (scripts.endless_line(), ProviderBadAnswer, "1048576"),
    (scripts.not_http(), ProviderBadAnswer, "not HTTP"),
    (scripts.reset(), ProviderUnreachable, "broke the connection"),
    (scripts.error_in_stream(429, after=0), ProviderOverloaded, "429"),
    (scripts.error_in_stream("server_error"), ProviderBadAnswer, "reports a failure"),
    (scripts.error_in_stream(None, "out of luck"), ProviderBadAnswer, "out of luck"),
    (scripts.error_in_stream("rate_limit_exceeded"), ProviderOverloaded, "limiting"),
    (scripts.raw(b'data: {"error": "just words"}\n\n'), ProviderBadAnswer, "reports a failure"),
    (scripts.raw(b'data: {"choices":[{"delta":{},"finish_reason":"error"}]}\n\n'), ProviderBadAnswer, "reports"),
    (scripts.error_in_stream(401), ProviderMisconfigured, "key"),
]


@pytest.mark.parametrize(("script", "kind", "words"), STATUSES)
def test_each_failure(
    upstream: Upstream, provider: ChatCompletions, script: Script, kind: type[ProviderError], words: str
) -> None:
    upstream.script = script
    error = failure(provider)
    assert type(error) is kind
    assert words in error.detail
    assert "compatible" in error.detail, "it says which provider"
    upstream.wait_for(lambda: upstream.open_streams == 0)


@pytest.mark.parametrize(
    ("how", "kind"), [("close", ProviderUnreachable), ("reset", ProviderUnreachable), ("clean", ProviderBadAnswer)]
)
def test_a_cut_stream_keeps_what_came(
    upstream: Upstream, provider: ChatCompletions, how: str, kind: type[ProviderError]
) -> None:
    upstream.script = scripts.cut(2, how)
    heard = Heard()
    assert type(failure(provider, heard=heard)) is kind
    assert heard.text == "word0 word1 "


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_cut_after_the_finish_reason_loses_nothing(upstream: Upstream, provider: ChatCompletions, how: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"content": "all of it"}, "stop"))
        if how == "reset":
            await exchange.pause(0.05)
            exchange.connection.abort()

    upstream.script = script
    assert listen(provider).text == "all of it"


def test_a_chunk_that_is_no_chunk_of_http(upstream: Upstream, provider: ChatCompletions) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.write(b"zz\r\nnot hexadecimal\r\n")

    upstream.script = script
    assert isinstance(failure(provider), ProviderUnreachable | ProviderBadAnswer)


def test_headers_without_end(upstream: Upstream, provider: ChatCompletions) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 200 OK\r\n" + b"X-More: more\r\n" * 500 + b"\r\n")

    upstream.script = script
    assert type(failure(provider)) is ProviderBadAnswer


def test_a_compressed_stream_is_unpacked_and_a_damaged_one_refused(
    upstream: Upstream, provider: ChatCompletions
) -> None:
    import gzip

    good = (scripts.STREAMS / "openai_text.sse").read_bytes()

    def packed(data: bytes) -> Script:
        async def script(exchange: Exchange) -> None:
            await exchange.head(headers={"Content-Encoding": "gzip"})
            await exchange.send(data)
            await exchange.end()

        return script

    upstream.then(packed(gzip.compress(good)), packed(b"\x1f\x8b damaged"))
    assert listen(provider).text.startswith("Paris")
    assert type(failure(provider)) is ProviderBadAnswer


def test_nobody_listens(make_provider: MakeProvider) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = failure(make_provider(url=f"http://127.0.0.1:{port}/v1"))
    assert type(error) is ProviderUnreachable
    assert "refused the connection" in error.detail


def test_a_name_that_does_not_exist(make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_retry_after(upstream: Upstream, provider: ChatCompletions, value: str, seconds: int | None) -> None:
    upstream.script = scripts.refusal(429, headers={"Retry-After": value})
    assert failure(provider).retry_after == seconds


def test_retry_after_as_a_date_ahead() -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=100)
    seconds = retry_after({"retry-after": format_datetime(ahead, usegmt=True)})
    assert seconds is not None
    assert math.isclose(seconds, 99, abs_tol=2)


def everything(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(vars(error))


LEAKS: list[Callable[[str], Script]] = [
    lambda text: scripts.refusal(400, text),
    lambda text: scripts.refusal(401, text, headers={"X-Echo": text}),
    lambda text: scripts.refusal(429, text),
    lambda text: scripts.refusal(500, text),
    lambda text: scripts.status(500, text),
    lambda text: scripts.error_in_stream(502, text),
    lambda text: scripts.raw(b"data: " + text.encode() + b"\n\n"),
    lambda text: scripts.raw(b"{}", "text/plain"),
    lambda text: scripts.cut(),
    lambda text: scripts.reset(),
    lambda text: scripts.not_http(),
]


@pytest.mark.parametrize("make", LEAKS)
def test_no_error_shows_a_key(upstream: Upstream, provider: ChatCompletions, make: Callable[[str], Script]) -> None:
    upstream.script = make(LEAK)
    shown = everything(failure(provider)) + repr(provider) + str(provider)
    assert KEY not in shown
    assert "abc.def" not in shown
    assert "sk-other" not in shown
    assert "uthorization" not in shown


def test_no_error_shows_what_a_person_wrote(upstream: Upstream, provider: ChatCompletions) -> None:
    secret = "my account number is DE89 3704 0044 0532 0130 00"
    said = "invalid content: 'number is DE89 3704 0044 0532 0130' at messages[0]"
    upstream.script = scripts.refusal(400, said)
    assert "DE89" not in everything(failure(provider, ChatRequest([ChatMessage("user", secret)])))
    upstream.script = scripts.refusal(400, "cannot handle 'pin 1234'")
    assert "1234" not in everything(failure(provider, ChatRequest([ChatMessage("user", "pin 1234")])))


def test_what_a_provider_says_is_shortened_and_cleaned(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.refusal(400, "nul \x00 and\nlines " + "long " * 1000)
    detail = failure(provider).detail
    assert len(detail) < 400
    assert "\x00" not in detail
    assert "\n" not in detail
