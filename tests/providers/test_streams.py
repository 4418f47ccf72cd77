"""Recorded streams mean what they mean, however the network cuts them."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.providers.answer import Answer
from app.providers.base import ChatMessage, ChatRequest, Timeouts
from app.providers.chat_completions import ChatCompletions
from app.providers.compatible import CompatibleProvider
from app.providers.openai import OpenAIProvider
from app.providers.openrouter import OpenRouterProvider
from app.providers.sse import DONE, EventReader
from tests.fakes.exchange import Exchange
from tests.fakes.scripts import STREAMS, answer, calls_tool, echo, raw, recorded, words
from tests.fakes.upstream import Upstream
from tests.providers.conftest import KEY, MakeProvider, listen

NAMES = sorted(path.stem for path in STREAMS.glob("*.sse"))


def meaning(name: str) -> dict[str, Any]:
    return dict(json.loads((STREAMS / f"{name}.json").read_text(encoding="utf-8")))


def calls_of(end: Any) -> list[list[str]] | None:
    calls = end.tool_calls
    return calls and [[call["id"], call["function"]["name"], call["function"]["arguments"]] for call in calls]


def same_calls(found: list[list[str]] | None, expected: list[list[str | None]] | None) -> bool:
    if not found or not expected:
        return found == expected
    ids = [call[0] for call in found]
    assert all(ids), "every call needs an id to be answered"
    assert len(set(ids)) == len(ids), "two calls share an id"
    return [call[1:] for call in found] == [call[1:] for call in expected] and all(
        wanted in (None, given) for given, (wanted, *_) in zip(ids, expected, strict=True)
    )


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_stream_over_http(upstream: Upstream, provider: ChatCompletions, name: str, size: int) -> None:
    upstream.script = recorded(name, size=size)
    heard, expected = listen(provider), meaning(name)
    assert heard.end is not None
    assert heard.text == expected["text"]
    assert (heard.end.finish_reason, heard.end.model) == (expected["finish_reason"], expected["model"])
    assert [heard.end.usage.input_tokens, heard.end.usage.output_tokens] == expected["usage"]
    assert same_calls(calls_of(heard.end), expected["tool_calls"])


def read_in_two(data: bytes, at: int) -> tuple[str, Any]:
    reader, heard, text = EventReader(), Answer("asked"), ""
    for piece in (data[:at], data[at:]):
        for chunk in reader.feed(piece):
            text += "" if chunk is DONE else heard.take(chunk)
    for chunk in reader.end():
        text += "" if chunk is DONE else heard.take(chunk)
    return text, heard.completed()


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_cut_at_every_byte(name: str) -> None:
    data, expected = (STREAMS / f"{name}.sse").read_bytes(), meaning(name)
    for at in range(len(data) + 1):
        text, end = read_in_two(data, at)
        assert (at, text, end.finish_reason) == (at, expected["text"], expected["finish_reason"])
        assert same_calls(calls_of(end), expected["tool_calls"])


def test_there_is_a_meaning_for_each_stream() -> None:
    assert NAMES
    assert [Path(name).stem for name in sorted(path.name for path in STREAMS.glob("*.json"))] == NAMES


def test_plain_json_although_a_stream_was_asked_for(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = answer("whole answer")
    heard = listen(provider)
    assert heard.pieces == ["whole answer"]
    assert heard.end is not None
    assert (heard.end.finish_reason, heard.end.usage.output_tokens) == ("stop", 4)


def test_plain_json_with_a_tool_call(upstream: Upstream, provider: ChatCompletions) -> None:
    call = {"id": "call_9", "type": "function", "function": {"name": "add_task", "arguments": "{}"}}
    upstream.script = answer("", [call], "tool_calls")
    assert listen(provider).end.tool_calls == [call]  # type: ignore[union-attr]  # listen has seen an end


def test_an_empty_answer_is_an_answer(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = words(count=0)
    heard = listen(provider)
    assert heard.pieces == []
    assert heard.end is not None
    assert heard.end.finish_reason == "stop"


def test_plain_json_after_a_mark(upstream: Upstream, provider: ChatCompletions) -> None:
    body = {"choices": [{"message": {"content": "marked"}, "finish_reason": "stop"}]}
    upstream.script = raw(b"\xef\xbb\xbf" + json.dumps(body).encode(), "application/json")
    assert listen(provider).text == "marked"


@pytest.mark.parametrize("status", [102, 103, 199])
def test_interim_answers_are_skipped(upstream: Upstream, provider: ChatCompletions, status: int) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 %d Soon\r\nLink: </x>; rel=preload\r\n\r\n" % status * 2)
        await words(count=1)(exchange)

    upstream.script = script
    assert listen(provider).text == "word0 "


def test_a_stream_without_content_type(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = raw((STREAMS / "openai_text.sse").read_bytes(), content_type=None)
    assert listen(provider).text == meaning("openai_text")["text"]


def test_what_is_asked(upstream: Upstream, make_provider: MakeProvider) -> None:
    tool = {"type": "function", "function": {"name": "add_task", "parameters": {"type": "object"}}}
    call = {"id": "c1", "type": "function", "function": {"name": "add_task", "arguments": "{}"}}
    messages = [
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "Grüße 👋"),
        ChatMessage("assistant", None, tool_calls=[call]),
        ChatMessage("tool", "done", tool_call_id="c1"),
    ]
    listen(make_provider(OpenAIProvider), ChatRequest(messages, model="other-model", tools=[tool]))
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
def test_options_go_under_the_name_that_the_server_knows(
    upstream: Upstream, make_provider: MakeProvider, kind: type[ChatCompletions], limit: str
) -> None:
    options = {"temperature": 0, "max_output_tokens": 50, "top_p": None, "nonsense": 1}
    listen(make_provider(kind), ChatRequest([ChatMessage("user", "hi")], options=options))
    body = upstream.requests[0].body
    assert (body["temperature"], body[limit]) == (0, 50)
    assert not {"max_output_tokens", "top_p", "nonsense"} & set(body)


def test_what_only_json_can_carry_is_still_sent(upstream: Upstream, provider: ChatCompletions) -> None:
    tool = {"type": "function", "function": {"name": "big", "parameters": {"maximum": 2**70}}}
    listen(provider, ChatRequest([ChatMessage("tool", "half \ud83d pair", tool_call_id="c")], tools=[tool]))
    body = upstream.requests[0].body
    assert body["messages"][0]["content"] == "half \ufffd pair"
    assert body["tools"][0]["function"]["parameters"]["maximum"] == 2**70


def test_openrouter_says_who_asks(upstream: Upstream, make_provider: MakeProvider) -> None:
    listen(make_provider(OpenRouterProvider))
    headers = upstream.requests[0].headers
    assert headers["x-title"] == "Parley"
    assert headers["http-referer"]


def test_the_path_of_a_base_url_is_kept_and_written_as_urls_are(upstream: Upstream) -> None:
    for given, path in (
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/ü b%20c", "/v1/%C3%BC%20b%20c/chat/completions"),
    ):
        provider = CompatibleProvider(base_url=upstream.base_url + given, api_key=None, model="m", timeouts=Timeouts())
        listen(provider)
        assert upstream.requests[-1].path == path


def test_no_key_no_authorization(upstream: Upstream, make_provider: MakeProvider) -> None:
    listen(make_provider(key=None))
    assert "authorization" not in upstream.requests[0].headers


def test_nothing_of_the_environment_goes_along(
    upstream: Upstream, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_ORG_ID", "env-organisation")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "env-project")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-From-Env: env-header\nAuthorization: Bearer env-key")
    listen(make_provider(key=None))
    assert "env-" not in str(upstream.requests[0].headers)
    assert "authorization" not in upstream.requests[0].headers


def test_a_server_that_does_not_know_stream_options(upstream: Upstream, provider: ChatCompletions) -> None:
    from tests.fakes.scripts import refusal

    upstream.then(refusal(422, "body.stream_options.include_usage: Extra inputs are not permitted"))
    assert listen(provider).text.startswith("word0")
    listen(provider)
    asked = ["stream_options" in seen.body for seen in upstream.requests]
    assert asked == [True, False, False], "asked once, then never again"


def test_a_tool_call_and_its_answer(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = calls_tool("add_task", '{"title": "milk"}')
    end = listen(provider).end
    assert end is not None
    assert end.tool_calls
    messages = [
        ChatMessage("user", "hi"),
        ChatMessage("assistant", None, end.tool_calls),
        ChatMessage("tool", "added", tool_call_id=end.tool_calls[0]["id"]),
    ]
    assert listen(provider, ChatRequest(messages)).text == "The tool said: added"


def test_the_history_is_sent(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = echo()
    messages = [ChatMessage("user", "one"), ChatMessage("assistant", "two"), ChatMessage("user", "three")]
    assert listen(provider, ChatRequest(messages)).text == "3 messages; last: three"
