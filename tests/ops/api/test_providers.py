"""Operators see the providers, switch and test them over HTTP, and are written down."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from app.config import Settings
from app.extensions import db
from ops import providers
from ops.actors import Actor
from tests.api.keys import problem
from tests.contracts.application import as_served
from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

URL = "/api/admin/providers"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(scripts.words(1)) as running:
        yield running


@pytest.fixture(scope="module")
def served(settings: Settings, flask_app: Flask, upstream: Upstream) -> Iterator[Flask]:
    """The demo answers; `openrouter` has a key."""
    changes = {"openrouter_api_key": SecretStr("sk-router"), "openrouter_base_url": upstream.base_url}
    served = as_served(replace(settings, provider=settings.provider.model_copy(update=changes)))
    yield served
    with served.app_context():
        db.engine.dispose()


@pytest.fixture
def client(served: Flask) -> Iterator[FlaskClient]:
    yield served.test_client()
    with served.app_context():
        providers.reset_provider(by=Actor(kind="command", name="test"))


def test_switched_and_back(client: FlaskClient, operator: Account, user: Account) -> None:
    def answers() -> str:
        turn = client.post("/api/chat", json={"message": "hello"}, headers=user.headers).get_json()["turn"]
        return str(turn["provider"])

    in_use = client.get(URL, headers=operator.headers).get_json()["in_use"]
    body = {"provider": "demo" if in_use == "openrouter" else "openrouter", "model": "some/model"}
    switched = client.put(f"{URL}/choice", json=body, headers=operator.headers)
    assert switched.get_json() == {
        "name": body["provider"],
        "model": "some/model",
        "before": in_use,
        "model_before": switched.get_json()["model_before"],
    }
    assert answers() == body["provider"]
    listed = client.get(URL, headers=operator.headers).get_json()
    assert (listed["in_use"], listed["because"]) == (body["provider"], f"chosen by {operator.id}")
    assert client.delete(f"{URL}/choice", headers=operator.headers).get_json()["name"] == in_use
    assert answers() == in_use
    acts = client.get("/api/admin/audit", query_string={"limit": 2}, headers=operator.headers).get_json()["items"]
    assert [(act["action"], act["target"], act["actor"], act["result"]) for act in acts] == [
        ("provider.reset", None, str(operator.id), "done"),
        ("provider.use", body["provider"], str(operator.id), "done"),
    ]


def test_what_cannot_be_chosen_says_why_and_is_written_down(client: FlaskClient, operator: Account) -> None:
    refused = client.put(f"{URL}/choice", json={"provider": "openai"}, headers=operator.headers)
    assert "OPENAI_API_KEY" in problem(refused, 409, "conflict")["detail"]
    [act] = client.get("/api/admin/audit", query_string={"limit": 1}, headers=operator.headers).get_json()["items"]
    assert (act["action"], act["target"], act["result"]) == ("provider.use", "openai", "refused")
    for body in (
        {"provider": "nonsense"},
        {},
        {"provider": "demo", "model": ""},
        {"provider": "demo", "url": "http://x"},
    ):
        problem(client.put(f"{URL}/choice", json=body, headers=operator.headers), 400, "invalid_input")


def test_a_provider_is_tried(client: FlaskClient, operator: Account, upstream: Upstream) -> None:
    upstream.script = scripts.words(1)
    tested = client.post(f"{URL}/openrouter/test", headers=operator.headers).get_json()
    assert (tested["answers"], tested["said"], tested["problem"]) == (True, "word0", None)
    upstream.script = scripts.refusal(401)
    tested = client.post(f"{URL}/openrouter/test", headers=operator.headers).get_json()
    assert (tested["answers"], tested["said"]) == (False, None)
    assert "refused the key" in tested["problem"]
    problem(client.post(f"{URL}/nonsense/test", headers=operator.headers), 404, "not_found")
    problem(client.post(f"{URL}/openai/test", headers=operator.headers), 409, "conflict")


def test_nobody_else_may(client: FlaskClient, user: Account) -> None:
    answers = [
        client.get(URL, headers=user.headers),
        client.put(f"{URL}/choice", json={"provider": "demo"}, headers=user.headers),
        client.delete(f"{URL}/choice", headers=user.headers),
        client.post(f"{URL}/demo/test", headers=user.headers),
    ]
    assert {answer.status_code for answer in answers} == {403}
