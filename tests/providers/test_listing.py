"""A server's list of models: names or a ProviderError, in bounded time and memory."""

from typing import Any

import orjson
import pytest

from app.errors import (
    ProviderError,
    ProviderMisconfigured,
    ProviderProtocolError,
    ProviderTimedOut,
    ProviderUnreachable,
)
from app.providers import listing
from app.providers.chat_completions import ChatCompletions
from app.providers.demo import DemoProvider
from app.providers.openai import OpenAIProvider
from app.providers.openrouter import OpenRouterProvider
from tests.fakes import scripts
from tests.fakes.exchange import Script
from tests.fakes.upstream import Upstream
from tests.providers.conftest import KEY, MakeProvider


def data(*names: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}


def test_models_are_unique_names_in_server_order(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.models = scripts.status(200, data("b/second", "a", "b/second", "größe 7"))
    assert provider.models() == ["b/second", "a", "größe 7"]
    [seen] = upstream.listings
    assert (seen.path, seen.headers["authorization"]) == ("/v1/models", f"Bearer {KEY}")


def test_openrouter_list_has_its_own_headers(upstream: Upstream, make_provider: MakeProvider) -> None:
    assert make_provider(OpenRouterProvider).models() == ["fake-model"]
    assert upstream.listings[-1].headers["x-title"] == "Parley"


def test_connection_is_reused(upstream: Upstream, provider: ChatCompletions) -> None:
    for _ in range(3):
        provider.models()
    assert upstream.connections == 1


@pytest.mark.parametrize("document", [["a"], {"data": []}, []])
def test_empty_or_odd_list_gives_no_names(upstream: Upstream, provider: ChatCompletions, document: Any) -> None:
    upstream.models = scripts.status(200, document)
    assert provider.models() == []


def test_list_without_object_is_accepted(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.models = scripts.status(200, data("a", "b")["data"])
    assert provider.models() == ["a", "b"]


def test_invalid_names_are_omitted(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.models = scripts.status(200, data("ok", "", None, 7, ["x"], "n" * 201, "line\nbreak", "nul\x00"))
    assert provider.models() == ["ok"]


def test_number_of_models_is_limited(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.models = scripts.status(200, data(*range(5), *(f"m{number}" for number in range(3000))))
    assert provider.models() == [f"m{number}" for number in range(listing.MAX_MODELS)]


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        (scripts.api_error(401), ProviderMisconfigured, "rejected the key"),
        (scripts.api_error(500), ProviderProtocolError, "failed"),
        (scripts.status(200, "<html>"), ProviderProtocolError, "compatible"),
        (scripts.status(200, {"models": []}), ProviderProtocolError, "invalid list of models"),
        (scripts.status(200, 7), ProviderProtocolError, "invalid list of models"),
        (scripts.status(302, "", {"Location": "http://169.254.169.254/"}), ProviderMisconfigured, "not followed"),
        (scripts.raw(b"x" * 5_000_000, "application/json"), ProviderProtocolError, "more than"),
        (scripts.not_http(), ProviderError, "The provider"),
        (scripts.reset(), ProviderUnreachable, "broke the connection"),
    ],
)
def test_failure_becomes_provider_error(
    upstream: Upstream, provider: ChatCompletions, script: Script, kind: type[ProviderError], text: str
) -> None:
    upstream.models = script
    with pytest.raises(kind, match=text) as caught:
        provider.models()
    assert KEY not in repr(caught.value)


@pytest.mark.parametrize("script", [scripts.hang(), scripts.drip("headers"), scripts.drip("body"), scripts.endless()])
def test_slow_list_times_out(
    upstream: Upstream, provider: ChatCompletions, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.providers.chat_completions.LIST_SECONDS", 0.3)
    monkeypatch.setattr(listing, "LIST_BYTES", 10**12)
    upstream.models = script
    with pytest.raises(ProviderTimedOut):
        provider.models()


def test_demo_lists_its_model() -> None:
    assert DemoProvider().models() == ["demo"]
    assert DemoProvider(model="mine").models() == ["mine"]


def test_invalid_utf8_keeps_valid_names(upstream: Upstream, provider: ChatCompletions) -> None:
    document = orjson.dumps(data("good")).replace(b'"list"', b'"\xff\xfe"')
    upstream.models = scripts.raw(document, "application/json")
    assert provider.models() == ["good"]


def test_openai_lists_its_models_with_its_own_package(upstream: Upstream, make_provider: MakeProvider) -> None:
    upstream.models = scripts.status(200, data("gpt-b", "gpt-a", "gpt-b", "line\nbreak", 7))
    assert make_provider(OpenAIProvider).models() == ["gpt-b", "gpt-a"]
    [seen] = upstream.listings
    assert (seen.path, seen.headers["authorization"]) == ("/v1/models", f"Bearer {KEY}")


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        (scripts.api_error(401), ProviderMisconfigured, "rejected the key"),
        (scripts.api_error(500), ProviderProtocolError, "failed"),
        (scripts.status(200, "<html>"), ProviderProtocolError, "invalid list of models"),
        (scripts.status(302, "", {"Location": "http://169.254.169.254/"}), ProviderMisconfigured, "not followed"),
        (scripts.not_http(), ProviderError, "The provider openai"),
        (scripts.reset(), ProviderUnreachable, "broke the connection"),
        (scripts.hang(), ProviderTimedOut, "within 0.3 seconds"),
    ],
)
def test_failure_of_openai_list_becomes_provider_error(
    upstream: Upstream,
    make_provider: MakeProvider,
    script: Script,
    kind: type[ProviderError],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.providers.openai.LIST_SECONDS", 0.3 if kind is ProviderTimedOut else 10)
    upstream.models = script
    with pytest.raises(kind, match=text) as caught:
        make_provider(OpenAIProvider).models()
    assert KEY not in repr(caught.value)
