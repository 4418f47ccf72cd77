"""`GET /api/models`: the providers and their models, in every state of the providers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from pydantic import SecretStr

from app.container import services
from ops.providers.choice import reset_provider, use_provider
from ops.runs.actors import Actor
from tests.api.keys import make_key
from tests.api.responses import assert_problem
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.metrics.scrape import Since

ME = Actor(kind="command", name="test")
Make = Callable[[], Flask]


@pytest.fixture(scope="module")
def second() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture
def make(make_chat_app: Callable[..., Flask], upstream: Upstream, second: Upstream) -> Iterator[Make]:
    """Yield a function that creates an application without cached lists; `openrouter` is `second`."""
    made: list[Flask] = []
    upstream.models = second.models = scripts.status(200, scripts.MODELS)
    upstream.listings.clear()
    second.listings.clear()

    def make() -> Flask:
        router = {"openrouter_api_key": SecretStr("sk-router"), "openrouter_base_url": second.base_url}
        made.append(make_chat_app(provider={"openai_base_url": upstream.base_url, "connect_timeout": 2, **router}))
        return made[-1]

    yield make
    for flask_app in made:
        with flask_app.app_context():
            reset_provider(by=ME)


def get_models(flask_app: Flask, user: LoggedInUser) -> dict[str, Any]:
    response = flask_app.test_client().get("/api/models", headers=user.headers)
    assert response.status_code == 200, response.text
    return {provider.pop("name"): provider for provider in response.get_json()["providers"]}


def test_default_provider_is_first_with_its_models(make: Make, user: LoggedInUser, second: Upstream) -> None:
    flask_app = make()
    listed = [{"id": name} for name in ("x/one", "openrouter/auto", "y/two")]
    second.models = scripts.status(200, {"data": listed})
    models = get_models(flask_app, user)
    assert list(models) == ["compatible", "demo", "openrouter"]
    assert models["compatible"]["models"] == ["default", "fake-model"]
    assert models["openrouter"]["models"] == ["openrouter/auto", "x/one", "y/two"]
    assert models["demo"]["models"] == ["demo"]
    assert all(model["listed_at"] and model["default_model"] == model["models"][0] for model in models.values())
    with flask_app.app_context():
        use_provider(name="openrouter", model="y/two", by=ME)
    models = get_models(flask_app, user)
    assert list(models) == ["openrouter", "compatible", "demo"]
    assert models["openrouter"]["models"] == ["y/two", "x/one", "openrouter/auto"]


def test_list_is_fetched_once_for_all_callers(
    make: Make, user: LoggedInUser, other_user: LoggedInUser, upstream: Upstream
) -> None:
    flask_app, since = make(), Since()
    assert get_models(flask_app, user) == get_models(flask_app, other_user) == get_models(flask_app, user)
    assert len(upstream.listings) == 1
    assert since.counted("cache_requests_total", cache="models", result="miss") <= 3
    assert since.counted("cache_requests_total", cache="models") == 9
    assert since.counted("cache_loads_total", cache="models", outcome="ok") == 3


def test_failed_provider_has_default_model_only(make: Make, user: LoggedInUser, second: Upstream) -> None:
    flask_app, since = make(), Since()
    second.models = scripts.api_error(500, "sk-router is what you sent")
    for _ in range(3):
        models = get_models(flask_app, user)
        assert models["openrouter"] == {
            "default_model": "openrouter/auto",
            "models": ["openrouter/auto"],
            "listed_at": None,
        }
        assert models["compatible"]["models"] == ["default", "fake-model"]
    assert len(second.listings) == 1  # not fetched again at once
    assert since.counted("cache_loads_total", cache="models", outcome="error") == 1


def test_lists_are_independent_of_callers(make: Make, user: LoggedInUser, other_user: LoggedInUser) -> None:
    """The cache is the same for all callers; a change or logout of one does not affect it."""
    flask_app = make()
    before = get_models(flask_app, user)
    client = flask_app.test_client()
    assert client.post("/api/projects", json={"name": "x", "model": "mine"}, headers=user.headers).status_code == 201
    assert client.post("/api/auth/logout", headers=user.headers).status_code == 204
    assert get_models(flask_app, other_user) == before
    assert_problem(client.get("/api/models", headers=user.headers), 401, "not_authenticated")


def test_api_key_reads_models(make: Make, user: LoggedInUser) -> None:
    flask_app = make()
    headers = make_key(flask_app, user, ["read"]).headers
    assert flask_app.test_client().get("/api/models", headers=headers).status_code == 200
    with flask_app.app_context():
        assert [model.name for model in services().models.all()] == ["compatible", "demo", "openrouter"]
