"""Recorded streams give the recorded answer, however the network splits them."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.outbound.timeouts import Timeouts
from app.providers.answer import Answer
from app.providers.base import ChatMessage, ChatRequest
from app.providers.chat_completions import ChatCompletions
from app.providers.compatible import CompatibleProvider
from app.providers.openai import OpenAIProvider
from app.providers.openrouter import OpenRouterProvider
from app.providers.sse import DONE, EventReader
from tests.fakes.exchange import Exchange
from tests.fakes.scripts import STREAMS, answer, calls_tool, echo, raw, recorded, words
from tests.fakes.upstream import Upstream
from tests.providers.conftest import KEY, MakeProvider, read_answer

NAMES = sorted(path.stem for path in STREAMS.glob("*.sse"))


def expected_answer(name: str) -> dict[str, Any]:
    return dict(json.loads((STREAMS / f"{name}.json").read_text(encoding="utf-8")))


def calls_of(end: Any) -> list[list[str]] | None:
    calls = end.tool_calls
    return calls and [[call["id"], call["function"]["name"], call["function"]["arguments"]] for call in calls]


def same_calls(actual: list[list[str]] | None, expected: list[list[str | None]] | None) -> bool:
    if not actual or not expected:
        return actual == expected
    ids = [call[0] for call in actual]
    assert all(ids), "every call needs an id to be answered"
    assert len(set(ids)) == len(ids), "two calls share an id"
    return [call[1:] for call in actual] == [call[1:] for call in expected] and all(
        expected_id in (None, call_id) for call_id, (expected_id, *_) in zip(ids, expected, strict=True)
    )


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("name", NAMES)
def test_recorded_stream_over_http_gives_recorded_answer(
    upstream: Upstream, provider: ChatCompletions, name: str, size: int
) -> None:
    upstream.script = recorded(name, size=size)
    received, expected = read_answer(provider), expected_answer(name)
    assert received.end is not None
    assert received.text == expected["text"]
    assert (received.end.finish_reason, received.end.model) == (expected["finish_reason"], expected["model"])
    assert [received.end.usage.input_tokens, received.end.usage.output_tokens] == expected["usage"]
    assert same_calls(calls_of(received.end), expected["tool_calls"])


def read_in_two(data: bytes, at: int) -> tuple[str, Any]:
    reader, received, text = EventReader(), Answer("requested"), ""
    for piece in (data[:at], data[at:]):
        for chunk in reader.feed(piece):
            text += "" if chunk is DONE else received.add(chunk)
    for chunk in reader.end():
        text += "" if chunk is DONE else received.add(chunk)
    return text, received.completed()


@pytest.mark.parametrize("name", NAMES)
def test_recorded_stream_split_at_any_byte_gives_recorded_answer(name: str) -> None:
    data, expected = (STREAMS / f"{name}.sse").read_bytes(), expected_answer(name)
    for at in range(len(data) + 1):
        text, end = read_in_two(data, at)
        assert (at, text, end.finish_reason) == (at, expected["text"], expected["finish_reason"])
        assert same_calls(calls_of(end), expected["tool_calls"])


def test_each_recorded_stream_has_an_expected_answer() -> None:
    assert NAMES
    assert [Path(name).stem for name in sorted(path.name for path in STREAMS.glob("*.json"))] == NAMES


def test_json_instead_of_stream_is_read(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = answer("whole answer")
    received = read_answer(provider)
    assert received.pieces == ["whole answer"]
    assert received.end is not None
    assert (received.end.finish_reason, received.end.usage.output_tokens) == ("stop", 4)


def test_json_with_tool_call_is_read(upstream: Upstream, provider: ChatCompletions) -> None:
    call = {"id": "call_9", "type": "function", "function": {"name": "add_task", "arguments": "{}"}}
    upstream.script = answer("", [call], "tool_calls")
    assert read_answer(provider).end.tool_calls == [call]  # type: ignore[union-attr]  # read_answer checks it


def test_empty_answer_is_accepted(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = words(count=0)
    received = read_answer(provider)
    assert received.pieces == []
    assert received.end is not None
    assert received.end.finish_reason == "stop"


def test_json_with_byte_order_mark_is_read(upstream: Upstream, provider: ChatCompletions) -> None:
    body = {"choices": [{"message": {"content": "marked"}, "finish_reason": "stop"}]}
    upstream.script = raw(b"\xef\xbb\xbf" + json.dumps(body).encode(), "application/json")
    assert read_answer(provider).text == "marked"


@pytest.mark.parametrize("status", [102, 103, 199])
def test_interim_responses_are_skipped(upstream: Upstream, provider: ChatCompletions, status: int) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 %d Soon\r\nLink: </x>; rel=preload\r\n\r\n" % status * 2)
        await words(count=1)(exchange)

    upstream.script = script
    assert read_answer(provider).text == "word0 "


def test_stream_without_content_type_is_read(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = raw((STREAMS / "openai_text.sse").read_bytes(), content_type=None)
    assert read_answer(provider).text == expected_answer("openai_text")["text"]


def test_request_has_expected_body_and_headers(upstream: Upstream, make_provider: MakeProvider) -> None:
    tool = {"type": "function", "function": {"name": "add_task", "parameters": {"type": "object"}}}
    call = {"id": "c1", "type": "function", "function": {"name": "add_task", "arguments": "{}"}}
    messages = [
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "Grüße 👋"),
        ChatMessage("assistant", None, tool_calls=[call]),
        ChatMessage("tool", "done", tool_call_id="c1"),
    ]
    read_answer(make_provider(OpenAIProvider), ChatRequest(messages, model="other-model", tools=[tool]))
    seen = upstream.requests[0]
    assert seen.path == "/v1/chat/completions"
    assert seen.body == {
        "model": "other-model",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Grüße 👋"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "done", "tool_call_id": "c1"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [tool],
    }
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["content-type"] == "application/json"
    assert "x-title" not in seen.headers


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        (OpenAIProvider, "max_completion_tokens"),
        (OpenRouterProvider, "max_tokens"),
        (CompatibleProvider, "max_tokens"),
    ],
)
def test_options_are_sent_by_the_servers_names(
    upstream: Upstream, make_provider: MakeProvider, kind: type[ChatCompletions], limit: str
) -> None:
    options = {"temperature": 0, "max_output_tokens": 50, "top_p": None, "nonsense": 1}
    read_answer(make_provider(kind), ChatRequest([ChatMessage("user", "hi")], options=options))
    body = upstream.requests[0].body
    assert (body["temperature"], body[limit]) == (0, 50)
    assert not {"max_output_tokens", "top_p", "nonsense"} & set(body)


def test_surrogates_and_big_numbers_are_sent(upstream: Upstream, provider: ChatCompletions) -> None:
    tool = {"type": "function", "function": {"name": "big", "parameters": {"maximum": 2**70}}}
    read_answer(provider, ChatRequest([ChatMessage("tool", "half \ud83d pair", tool_call_id="c")], tools=[tool]))
    body = upstream.requests[0].body
    assert body["messages"][0]["content"] == "half \ufffd pair"
    assert body["tools"][0]["function"]["parameters"]["maximum"] == 2**70


def test_openrouter_request_names_the_application(upstream: Upstream, make_provider: MakeProvider) -> None:
    read_answer(make_provider(OpenRouterProvider))
    headers = upstream.requests[0].headers
    assert headers["x-title"] == "Parley"
    assert headers["http-referer"]


def test_path_of_base_url_is_kept_and_quoted(upstream: Upstream) -> None:
    for suffix, path in (
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/ü b%20c", "/v1/%C3%BC%20b%20c/chat/completions"),
    ):
        provider = CompatibleProvider(base_url=upstream.base_url + suffix, api_key=None, model="m", timeouts=Timeouts())
        read_answer(provider)
        assert upstream.requests[-1].path == path


def test_request_without_key_has_no_authorization(upstream: Upstream, make_provider: MakeProvider) -> None:
    read_answer(make_provider(key=None))
    assert "authorization" not in upstream.requests[0].headers


def test_environment_does_not_change_request(
    upstream: Upstream, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_ORG_ID", "env-organisation")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "env-project")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-From-Env: env-header\nAuthorization: Bearer env-key")
    read_answer(make_provider(key=None))
    assert "env-" not in str(upstream.requests[0].headers)
    assert "authorization" not in upstream.requests[0].headers


def test_rejected_stream_options_are_not_sent_again(upstream: Upstream, provider: ChatCompletions) -> None:
    from tests.fakes.scripts import api_error

    upstream.queue_scripts(api_error(422, "body.stream_options.include_usage: Extra inputs are not permitted"))
    assert read_answer(provider).text.startswith("word0")
    read_answer(provider)
    with_options = ["stream_options" in seen.body for seen in upstream.requests]
    assert with_options == [True, False, False]


def test_tool_result_is_sent(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = calls_tool("add_task", '{"title": "milk"}')
    end = read_answer(provider).end
    assert end is not None
    assert end.tool_calls
    messages = [
        ChatMessage("user", "hi"),
        ChatMessage("assistant", None, end.tool_calls),
        ChatMessage("tool", "added", tool_call_id=end.tool_calls[0]["id"]),
    ]
    assert read_answer(provider, ChatRequest(messages)).text == "The tool said: added"


def test_history_is_sent(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = echo()
    messages = [ChatMessage("user", "one"), ChatMessage("assistant", "two"), ChatMessage("user", "three")]
    assert read_answer(provider, ChatRequest(messages)).text == "3 messages; last: three"
