"""Errors inside a response of status 200, in the shapes of real servers."""

from typing import Any

import pytest

from app.errors import ProviderError, ProviderMisconfigured, ProviderOverloaded, ProviderProtocolError
from app.providers.chat_completions import ChatCompletions
from tests.fakes import scripts
from tests.fakes.chunks import delta, lines
from tests.fakes.upstream import Upstream
from tests.providers.conftest import read_answer

TOO_LONG = "This model's maximum context length is 8192 tokens"


@pytest.mark.parametrize(
    ("event", "kind", "reason"),
    [
        ({"object": "error", "message": "no such adapter", "code": 400}, ProviderMisconfigured, "no such adapter"),
        ({"object": "error", "message": "busy", "type": "overloaded"}, ProviderOverloaded, "busy"),
        ('event: error\ndata: {"message":"went wrong"}', ProviderProtocolError, "went wrong"),
        ('event: error\ndata: {"error":{"message":"inner"}}', ProviderProtocolError, "inner"),
        ("event: error\ndata: plain words", ProviderProtocolError, "plain words"),
        ({"detail": "Model is loading"}, ProviderProtocolError, "Model is loading"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}]}, ProviderProtocolError, "field required"),
        ({"error": "just text"}, ProviderProtocolError, "just text"),
        ({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, ProviderOverloaded, "slow down"),
        ([{"error": {"code": 429, "message": "quota of Google"}}], ProviderOverloaded, "quota of Google"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, ProviderOverloaded, "Over"),
        ({"message": "broken", "code": 500}, ProviderProtocolError, "broken"),
        ({"error": {"message": TOO_LONG}}, ProviderMisconfigured, "longer than the context"),
        ({"object": "error", "message": TOO_LONG, "code": 400}, ProviderMisconfigured, "longer than the context"),
        ({"error": TOO_LONG}, ProviderMisconfigured, "longer than the context"),
        ({"detail": TOO_LONG}, ProviderMisconfigured, "longer than the context"),
        ({"error": {"message": TOO_LONG, "code": 500}}, ProviderMisconfigured, "longer than the context"),
        ({"errors": [{"message": "blocked", "code": 10000}], "success": False}, ProviderProtocolError, "blocked"),
        ({"success": False, "message": "no worker"}, ProviderProtocolError, "no worker"),
        ({"error": True, "message": "flagged"}, ProviderProtocolError, "flagged"),
        ({"error": {"message": {"text": "nested"}}}, ProviderProtocolError, "nested"),
        ({"code": 503, "msg": "short name"}, ProviderOverloaded, "short name"),
        ({"error_code": 17, "error_msg": "daily limit"}, ProviderProtocolError, "daily limit"),
        ({"choices": None, "base_resp": {"status_code": 9, "status_msg": "login"}}, ProviderProtocolError, "login"),
        ({"Message": "capital"}, ProviderProtocolError, "capital"),
        ({"message": "Endpoint request timed out"}, ProviderProtocolError, "Endpoint request timed out"),
        ({"fault": {"faultstring": "spike arrest"}}, ProviderProtocolError, "spike arrest"),
        ({"surprise": {"why": "unknown shape"}}, ProviderProtocolError, "unknown shape"),
        ({"choices": [{"index": 0, "error": {"message": "of a choice"}}]}, ProviderProtocolError, "of a choice"),
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": '{"error":"loading"}'}}},
            ProviderProtocolError,
            "loading",
        ),
        ('event: error\ndata: {"description":"other field"}', ProviderProtocolError, "other field"),
    ],
)
@pytest.mark.parametrize("where", ["first", "middle", "answer"])
def test_error_inside_a_200_is_reported_with_its_reason(
    upstream: Upstream, provider: ChatCompletions, event: Any, kind: type[ProviderError], reason: str, where: str
) -> None:
    if where == "answer" and not isinstance(event, str):
        upstream.script = scripts.status(200, event)
    else:
        upstream.script = scripts.raw(lines(*([delta("A")] if where == "middle" else []), event))
    with pytest.raises(ProviderError) as caught:
        read_answer(provider)
    assert type(caught.value) is kind
    assert reason in caught.value.full_detail


@pytest.mark.parametrize(
    "message",
    [
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "Input is too long for requested model.",
        "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens",
        "the request exceeds the available context size",
        "Please reduce the length of the messages or completion.",
        "Requested tokens (5032) exceed context window of 4096",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096",
        "Range of input length should be [1, 30720]",
    ],
)
def test_context_length_error_is_recognized_in_the_words_of_each_server(
    upstream: Upstream, provider: ChatCompletions, message: str
) -> None:
    for script in (
        scripts.api_error(400, message),
        scripts.status(200, {"object": "error", "message": message, "code": 400}),
        scripts.raw(lines(delta("A"), {"error": {"message": message}})),
    ):
        upstream.script = script
        with pytest.raises(ProviderMisconfigured, match="longer than the context"):
            read_answer(provider)


@pytest.mark.parametrize("depth", [200, 900, 1020, 5000])
@pytest.mark.parametrize("start", ['{"error":', '{"detail":', '{"message":', '{"errors":[{"msg":'])
def test_deeply_nested_error_is_a_failure_of_the_provider(
    upstream: Upstream, provider: ChatCompletions, start: str, depth: int
) -> None:
    ends = "".join({"{": "}", "[": "]"}.get(character, "") for character in reversed(start))
    upstream.script = scripts.raw(lines(delta("A"), f"data: {start * depth}1{ends * depth}"))
    with pytest.raises(ProviderProtocolError):
        read_answer(provider)


@pytest.mark.parametrize(
    ("label", "text"), [("text/plain", "no healthy upstream"), ("text/html", "<h1>Bad gateway</h1>")]
)
def test_text_that_is_no_answer_is_the_reason(
    upstream: Upstream, provider: ChatCompletions, label: str, text: str
) -> None:
    upstream.script = scripts.raw(text.encode(), label)
    with pytest.raises(ProviderProtocolError, match="something else than a stream") as caught:
        read_answer(provider)
    assert text in caught.value.full_detail
