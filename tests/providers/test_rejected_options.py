"""Options of a request that a model rejects."""

import pytest

from app.errors import ProviderMisconfigured
from app.providers.base import ChatMessage, ChatRequest
from app.providers.chat_completions import ChatCompletions
from tests.fakes import scripts
from tests.fakes.chunks import lines
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.providers.conftest import read_answer


def refusing(parameter: str, message: str) -> Script:
    """Return a script that answers 400 as long as the request has `parameter`."""

    async def script(exchange: Exchange) -> None:
        chosen = scripts.api_error(400, message) if parameter in (exchange.json() or {}) else scripts.words(2)
        await chosen(exchange)

    return script


@pytest.mark.parametrize(
    ("option", "parameter", "message"),
    [
        ("temperature", "temperature", "Unsupported value: 'temperature' does not support 0.2 with this model."),
        ("temperature", "temperature", "`temperature` is deprecated for this model."),
        ("top_p", "top_p", "Unsupported parameter: 'top_p' is not supported with this model."),
        ("max_output_tokens", "max_tokens", "Unsupported parameter: 'max_tokens'."),
    ],
)
def test_request_is_repeated_once_without_an_option_that_the_model_rejects(
    upstream: Upstream, provider: ChatCompletions, option: str, parameter: str, message: str
) -> None:
    options = {"temperature": 0.2, "top_p": 0.9, "max_output_tokens": 7}
    upstream.script = refusing(parameter, message)
    request = ChatRequest([ChatMessage("user", "hello")], options=options)
    end = read_answer(provider, request).end
    assert end is not None
    assert end.dropped_options == (option,)
    assert [parameter in seen.body for seen in upstream.requests] == [True, False]
    end = read_answer(provider, request).end
    assert end is not None
    assert end.dropped_options == (option,)
    assert [parameter in seen.body for seen in upstream.requests] == [True, False, False]


@pytest.mark.parametrize("shape", ["answer", "stream"])
def test_option_rejected_inside_a_200_is_left_out(upstream: Upstream, provider: ChatCompletions, shape: str) -> None:
    error = {"error": {"message": "Unsupported parameter: 'temperature'.", "code": 400}}

    async def script(exchange: Exchange) -> None:
        rejecting = scripts.status(200, error) if shape == "answer" else scripts.raw(lines(error))
        chosen = rejecting if "temperature" in exchange.json() else scripts.words(2)
        await chosen(exchange)

    upstream.script = script
    received = read_answer(provider, ChatRequest([ChatMessage("user", "hello")], options={"temperature": 0.2}))
    assert received.text == "word0 word1 "
    assert received.end is not None
    assert received.end.dropped_options == ("temperature",)
    assert len(upstream.requests) == 2


def test_options_rejected_one_after_the_other_are_left_out(upstream: Upstream, provider: ChatCompletions) -> None:
    async def script(exchange: Exchange) -> None:
        for parameter in ("temperature", "top_p", "max_tokens"):
            if parameter in exchange.json():
                await scripts.api_error(400, f"Unsupported parameter: '{parameter}'.")(exchange)
                return
        await scripts.words(2)(exchange)

    upstream.script = script
    options = {"temperature": 0.2, "top_p": 0.9, "max_output_tokens": 7}
    end = read_answer(provider, ChatRequest([ChatMessage("user", "hello")], options=options)).end
    assert end is not None
    assert end.dropped_options == ("max_output_tokens", "temperature", "top_p")
    assert len(upstream.requests) == 4


def test_error_about_something_else_is_not_repeated(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.api_error(400, "Invalid value for 'messages'")
    with pytest.raises(ProviderMisconfigured, match="rejected the request as invalid"):
        read_answer(provider, ChatRequest([ChatMessage("user", "hello")], options={"temperature": 0.2}))
    assert len(upstream.requests) == 1


def test_option_rejected_after_another_is_left_out_too(upstream: Upstream, provider: ChatCompletions) -> None:
    request = ChatRequest([ChatMessage("user", "hello")], options={"temperature": 0.2, "top_p": 0.9})
    for option, dropped in (("temperature", ("temperature",)), ("top_p", ("temperature", "top_p"))):
        upstream.script = refusing(option, f"Unsupported parameter: '{option}'.")
        end = read_answer(provider, request).end
        assert end is not None
        assert end.dropped_options == dropped
