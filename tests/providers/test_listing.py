"""A server's list of models: whatever it sends, it ends as names or as a ProviderError, in bounded time and space."""

from typing import Any

import orjson
import pytest

from app.errors import ProviderBadAnswer, ProviderError, ProviderMisconfigured, ProviderTimedOut, ProviderUnreachable
from app.providers import listing
from app.providers.chat_completions import ChatCompletions
from app.providers.demo import DemoProvider
from app.providers.openrouter import OpenRouterProvider
from tests.fakes import scripts
from tests.fakes.exchange import Script
from tests.fakes.upstream import Upstream
from tests.providers.conftest import KEY, MakeProvider


def data(*names: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}


def test_the_names_in_the_servers_order_each_once(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.models = scripts.status(200, data("b/second", "a", "b/second", "größe 7"))
    assert provider.models() == ["b/second", "a", "größe 7"]
    [seen] = upstream.listings
    assert (seen.path, seen.headers["authorization"]) == ("/v1/models", f"Bearer {KEY}")


def test_openrouter_sends_its_own_headers(upstream: Upstream, make_provider: MakeProvider) -> None:
    assert make_provider(OpenRouterProvider).models() == ["fake-model"]
    assert upstream.listings[-1].headers["x-title"] == "Parley"


def test_the_connection_is_used_again(upstream: Upstream, provider: ChatCompletions) -> None:
    for _ in range(3):
        provider.models()
    assert upstream.connections == 1


@pytest.mark.parametrize("told", [["a"], {"data": []}, []])
def test_what_some_servers_send(upstream: Upstream, provider: ChatCompletions, told: Any) -> None:
    upstream.models = scripts.status(200, told)
    assert provider.models() == []


def test_a_bare_list(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.models = scripts.status(200, data("a", "b")["data"])
    assert provider.models() == ["a", "b"]


def test_names_that_are_none_are_left_out(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.models = scripts.status(200, data("ok", "", None, 7, ["x"], "n" * 201, "line\nbreak", "nul\x00"))
    assert provider.models() == ["ok"]


def test_so_many_and_no_more(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.models = scripts.status(200, data(*range(5), *(f"m{number}" for number in range(3000))))
    assert provider.models() == [f"m{number}" for number in range(listing.MODELS)]


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        (scripts.refusal(401), ProviderMisconfigured, "refused the key"),
        (scripts.refusal(500), ProviderBadAnswer, "failed"),
        (scripts.status(200, "<html>"), ProviderBadAnswer, "compatible"),
        (scripts.status(200, {"models": []}), ProviderBadAnswer, "cannot be understood"),
        (scripts.status(200, 7), ProviderBadAnswer, "cannot be understood"),
        (scripts.status(302, "", {"Location": "http://169.254.169.254/"}), ProviderMisconfigured, "not followed"),
        (scripts.raw(b"x" * 5_000_000, "application/json"), ProviderBadAnswer, "more than"),
        (scripts.not_http(), ProviderError, "The provider"),
        (scripts.reset(), ProviderUnreachable, "broke the connection"),
    ],
)
def test_everything_else_is_an_error_of_ours(
    upstream: Upstream, provider: ChatCompletions, script: Script, kind: type[ProviderError], says: str
) -> None:
    upstream.models = script
    with pytest.raises(kind, match=says) as caught:
        provider.models()
    assert KEY not in repr(caught.value)


@pytest.mark.parametrize("script", [scripts.hang(), scripts.drip("headers"), scripts.drip("body"), scripts.endless()])
def test_it_ends_in_time(
    upstream: Upstream, provider: ChatCompletions, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.providers.chat_completions.LIST_SECONDS", 0.3)
    monkeypatch.setattr(listing, "LIST_BYTES", 10**12)
    upstream.models = script
    with pytest.raises(ProviderTimedOut):
        provider.models()


def test_the_demo_has_one() -> None:
    assert DemoProvider().models() == ["demo"]
    assert DemoProvider(model="mine").models() == ["mine"]


def test_a_damaged_list_loses_no_good_name(upstream: Upstream, provider: ChatCompletions) -> None:
    told = orjson.dumps(data("good")).replace(b'"list"', b'"\xff\xfe"')
    upstream.models = scripts.raw(told, "application/json")
    assert provider.models() == ["good"]
