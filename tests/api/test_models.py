"""`GET /api/models`: whom a caller may choose, whatever state those are in."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from pydantic import SecretStr

from app.services.container import services
from ops import providers
from ops.actors import Actor
from tests.api.keys import make_key, problem
from tests.factories import Account
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
    """Makes an application that knows no list yet. `compatible` is `upstream`, `openrouter` is `second`."""
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
            providers.reset_provider(by=ME)


def told(flask_app: Flask, user: Account) -> dict[str, Any]:
    response = flask_app.test_client().get("/api/models", headers=user.headers)
    assert response.status_code == 200, response.text
    return {each.pop("name"): each for each in response.get_json()["providers"]}


def test_each_provider_with_its_models_the_one_in_use_first(make: Make, user: Account, second: Upstream) -> None:
    flask_app = make()
    listed = [{"id": name} for name in ("x/one", "openrouter/auto", "y/two")]
    second.models = scripts.status(200, {"data": listed})
    found = told(flask_app, user)
    assert list(found) == ["compatible", "demo", "openrouter"]
    assert found["compatible"]["models"] == ["default", "fake-model"]
    assert found["openrouter"]["models"] == ["openrouter/auto", "x/one", "y/two"]
    assert found["demo"]["models"] == ["demo"]
    assert all(each["listed_at"] and each["default_model"] == each["models"][0] for each in found.values())
    with flask_app.app_context():
        providers.use_provider(name="openrouter", model="y/two", by=ME)
    found = told(flask_app, user)
    assert list(found) == ["openrouter", "compatible", "demo"]
    assert found["openrouter"]["models"] == ["y/two", "x/one", "openrouter/auto"]


def test_a_list_is_asked_for_once_by_everybody(
    make: Make, user: Account, other_user: Account, upstream: Upstream
) -> None:
    flask_app, since = make(), Since()
    assert told(flask_app, user) == told(flask_app, other_user) == told(flask_app, user)
    assert len(upstream.listings) == 1
    assert since.counted("cache_reads_total", cache="models", result="miss") <= 3
    assert since.counted("cache_reads_total", cache="models") == 9
    assert since.counted("cache_loads_total", cache="models", outcome="ok") == 3


def test_one_that_fails_still_has_its_default_and_hides_no_other(make: Make, user: Account, second: Upstream) -> None:
    flask_app, since = make(), Since()
    second.models = scripts.refusal(500, "sk-router is what you sent")
    for _ in range(3):
        found = told(flask_app, user)
        assert found["openrouter"] == {
            "default_model": "openrouter/auto",
            "models": ["openrouter/auto"],
            "listed_at": None,
        }
        assert found["compatible"]["models"] == ["default", "fake-model"]
    assert len(second.listings) == 1  # it is not asked again at once
    assert since.counted("cache_loads_total", cache="models", outcome="error") == 1


def test_the_owners_choice_is_no_part_of_it(make: Make, user: Account, other_user: Account) -> None:
    """What is remembered is nobody's own: the same for everybody, so neither a write nor a logout changes it."""
    flask_app = make()
    before = told(flask_app, user)
    client = flask_app.test_client()
    assert client.post("/api/projects", json={"name": "x", "model": "mine"}, headers=user.headers).status_code == 201
    assert client.post("/api/auth/logout", headers=user.headers).status_code == 204
    assert told(flask_app, other_user) == before
    problem(client.get("/api/models", headers=user.headers), 401, "not_authenticated")


def test_a_program_may_read_it(make: Make, user: Account) -> None:
    flask_app = make()
    headers = make_key(flask_app, user, ["read"]).headers
    assert flask_app.test_client().get("/api/models", headers=headers).status_code == 200
    with flask_app.app_context():
        assert [each.name for each in services().models.all()] == ["compatible", "demo", "openrouter"]
