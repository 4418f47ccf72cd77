"""Reading of real servers: chunks without an answer, late garbage, wrong labels, other shapes of text."""

import json
from typing import Any

import pytest

from app.errors import ProviderProtocolError
from app.providers.chat_completions import ChatCompletions
from tests.fakes import scripts
from tests.fakes.chunks import DONE, END, delta, lines
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.providers.conftest import read_answer

NOTHING = [
    "data: null",
    "data: {}",
    'data: {"type":"ping"}',
    'event: ping\ndata: {"type":"ping"}',
    "event: ping\ndata: not json",
    'data: {"choices":null}',
    'data: {"choices":[]}',
    'data: {"x_groq":{"id":"req_1"}}',
    'data: {"cost":"0"}',
    'data: {"usage":"none","cost":0.1}',
    'data: {"usage":null,"choices":[{"index":0,"delta":null}]}',
    'data: {"choices":[{"index":0,"delta":{"content":null,"role":"assistant"}}]}',
    "data: []",
    'data: "text"',
    "data: 42",
    'data: {"message":"ok","code":200}',
    'data: {"status":"processing","message":"queued"}',
    'data: {"code":0,"message":"success"}',
    "data: ping",
    "data: : still working",
    "event: PING\ndata: not json",
    ": comment",
    "event: message",
    "retry: 1000",
]


@pytest.mark.parametrize("nothing", NOTHING)
def test_chunk_without_an_answer_is_skipped(upstream: Upstream, provider: ChatCompletions, nothing: str) -> None:
    upstream.script = scripts.raw(lines(nothing, delta("A"), nothing, delta(" B"), nothing, END, nothing, DONE))
    received = read_answer(provider)
    assert received.text == "A B"
    assert received.end is not None
    assert received.end.finish_reason == "stop"


@pytest.mark.parametrize(
    "late",
    [
        *NOTHING,
        "data: not json",
        'data: {"error":{"message":"overloaded","code":503}}',
        'event: error\ndata: {"message":"late"}',
        'data: {"choices":[{"index":0,"delta":{"tool_calls":7}}]}',
        'data: {"choices":7}',
        "data: " + "x" * 1_200_000,
        'data: {"choices":[{"index":0,"error":{"message":"late"}}]}',
        'data: {"choices":[{"index":0,"delta":{"tool_calls":['
        + ",".join(f'{{"index":{index},"function":{{"name":"f"}}}}' for index in range(200))
        + "]}}]}",
        'data: {"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}',
    ],
    ids=lambda late: late[:40],
)
@pytest.mark.parametrize("done", [[], [DONE]])
def test_nothing_after_the_finish_reason_fails_the_answer(
    upstream: Upstream, provider: ChatCompletions, late: str, done: list[str]
) -> None:
    upstream.script = scripts.raw(lines(delta("whole"), END, late, *done))
    received = read_answer(provider)
    assert received.text == "whole"
    assert received.end is not None
    assert received.end.finish_reason == "stop"


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (['"A \\ud83d"', '"\\ude00 B"'], "A 😀 B"),
        (['"\\ud83d"', '"\\ude00"', '"\\ud83d\\ude00"'], "😀😀"),
        (['"A \\ud83d"', '" B"'], "A \ufffd B"),
        (['"A \\ud83d"'], "A \ufffd"),
        (['"\\ude00 B"'], "\ufffd B"),
        (['"\\ud83d"', '""', '"\\ude00"'], "😀"),
    ],
)
def test_character_split_over_two_deltas_is_one(
    upstream: Upstream, provider: ChatCompletions, pieces: list[str], text: str
) -> None:
    chunks = [f'data: {{"choices":[{{"index":0,"delta":{{"content":{piece}}}}}]}}' for piece in pieces]
    upstream.script = scripts.raw(lines(*chunks, END, DONE))
    assert read_answer(provider).text == text


def test_character_split_in_tool_arguments_is_one(upstream: Upstream, provider: ChatCompletions) -> None:
    def piece(arguments: str, **more: str) -> str:
        call = f'{{"index":0,"id":"c1","function":{{"name":"f","arguments":"{arguments}"}}}}'
        return f'data: {{"choices":[{{"index":0,"delta":{{"tool_calls":[{call}]}}}}]}}'

    upstream.script = scripts.raw(lines(piece('{\\"t\\":\\"\\ud83d'), piece('\\ude00\\"}'), END, DONE))
    end = read_answer(provider).end
    assert end is not None
    assert end.tool_calls is not None
    assert json.loads(end.tool_calls[0]["function"]["arguments"]) == {"t": "😀"}


@pytest.mark.parametrize("label", ["text/plain", "application/json", "application/octet-stream", None, "text/html"])
def test_stream_under_any_label_is_a_stream(upstream: Upstream, provider: ChatCompletions, label: str | None) -> None:
    upstream.script = scripts.raw(lines(delta("A"), END, DONE), label)
    assert read_answer(provider).text == "A"


@pytest.mark.parametrize("label", ["text/event-stream", "text/plain", "application/octet-stream", None])
@pytest.mark.parametrize("before", [b"", b"\n \n", b"\xef\xbb\xbf", b" " * 3000, b": working\n\n: working\n\n"])
def test_json_answer_under_any_label_is_an_answer(
    upstream: Upstream, provider: ChatCompletions, label: str | None, before: bytes
) -> None:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]}
    upstream.script = scripts.raw(before + json.dumps(body).encode(), label)
    assert read_answer(provider).text == "whole"


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_answer_with_status_201_is_an_answer(upstream: Upstream, provider: ChatCompletions, kind: str) -> None:
    """Some frameworks answer each POST with 201."""
    answer = json.dumps({"choices": [{"index": 0, "message": {"content": "A"}, "finish_reason": "stop"}]}).encode()

    async def script(exchange: Exchange) -> None:
        await exchange.head(201, kind)
        await exchange.send(lines(delta("A"), END, DONE) if kind == "text/event-stream" else answer)
        await exchange.end()

    upstream.script = script
    assert read_answer(provider).text == "A"


def test_json_answer_with_an_end_marker_behind_it_is_an_answer(upstream: Upstream, provider: ChatCompletions) -> None:
    body = json.dumps({"choices": [{"index": 0, "message": {"content": "whole"}, "finish_reason": "stop"}]})
    upstream.script = scripts.raw(f"{body}\n\ndata: [DONE]\n\n".encode(), "application/json")
    assert read_answer(provider).text == "whole"


def test_chunks_on_lines_of_their_own_are_an_answer(upstream: Upstream, provider: ChatCompletions) -> None:
    chunks = "\n".join(json.dumps(chunk) for chunk in (delta("A"), {}, delta(" B"), END))
    upstream.script = scripts.raw(chunks.encode(), "application/x-ndjson")
    assert read_answer(provider).text == "A B"


def encoded(encoding: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.head(200, "text/event-stream", headers={"Content-Encoding": encoding})
        await exchange.send(b"\x8b\x02\x80garbage\x03")
        await exchange.end()

    return script


@pytest.mark.parametrize("encoding", ["br", "zstd", "ZSTD", "compress", "dcb", "gzip, br"])
def test_compression_that_cannot_be_read_is_named(upstream: Upstream, provider: ChatCompletions, encoding: str) -> None:
    upstream.script = encoded(encoding)
    with pytest.raises(ProviderProtocolError, match="compression that was not requested"):
        read_answer(provider)


def test_only_choice_0_is_read(upstream: Upstream, provider: ChatCompletions) -> None:
    both = {"choices": [{"index": 1, "delta": {"content": "X"}}, {"index": 0, "delta": {"content": "A"}}]}
    other = {"choices": [{"index": 1, "delta": {"content": "Y"}, "finish_reason": "stop"}]}
    upstream.script = scripts.raw(lines(both, other, delta("B"), END, DONE))
    assert read_answer(provider).text == "AB"


@pytest.mark.parametrize("empty", [{}, {"content": ""}, None])
def test_whole_message_beside_an_empty_delta_does_not_double_the_text(
    upstream: Upstream, provider: ChatCompletions, empty: Any
) -> None:
    last = {"choices": [{"index": 0, "delta": empty, "message": {"content": "A B"}, "finish_reason": "stop"}]}
    upstream.script = scripts.raw(lines(delta("A"), delta(" B"), last, DONE))
    assert read_answer(provider).text == "A B"
    upstream.script = scripts.raw(lines(last, DONE))
    assert read_answer(provider).text == "A B"


def test_messages_instead_of_deltas_are_joined(upstream: Upstream, provider: ChatCompletions) -> None:
    def message(content: str, **choice: Any) -> dict[str, Any]:
        return {"choices": [{"index": "0", "message": {"content": content}, **choice}]}

    for last, text in ((" C", "A B C"), ("A B C", "A B C"), ("", "A B")):
        upstream.script = scripts.raw(lines(message("A"), message(" B"), message(last, finish_reason="stop"), DONE))
        assert read_answer(provider).text == text


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"content": [{"type": "output_text", "text": "A B"}]}},
        {"delta": {"content": [{"type": "thinking", "text": "hm"}, {"type": "text", "text": "A"}, {"text": " B"}]}},
        {"message": {"content": [{"type": "output_text", "text": "A B"}]}},
        {"text": "A B"},
        {"delta": {"refusal": "A B"}},
        {"delta": {"content": {"type": "text", "text": "A B"}}},
        {"delta": {"content": [{"type": "text", "text": {"value": "A B"}}]}},
        {"delta": {"content": [{"type": "text_delta", "text": "A B"}, {"type": "reasoning_text", "text": "hm"}]}},
        {"message": [{"type": "text", "text": "A B"}]},
    ],
)
def test_text_in_other_shapes_is_not_lost(
    upstream: Upstream, provider: ChatCompletions, choice: dict[str, Any]
) -> None:
    chunk = {"choices": [{"index": 0, **choice, "finish_reason": "stop"}]}
    upstream.script = scripts.raw(lines(chunk, DONE))
    assert read_answer(provider).text == "A B"
    upstream.script = scripts.status(200, chunk)
    assert read_answer(provider).text == "A B"
