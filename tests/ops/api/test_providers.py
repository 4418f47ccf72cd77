"""The admin API of providers."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from app.config import Settings
from app.extensions import db
from ops.providers.choice import reset_provider
from ops.runs.actors import Actor
from tests.api.responses import assert_problem
from tests.contracts.application import as_served
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

URL = "/api/admin/providers"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(scripts.words(1)) as running:
        yield running


@pytest.fixture(scope="module")
def served(settings: Settings, flask_app: Flask, upstream: Upstream) -> Iterator[Flask]:
    """Return the application with the demo in use and a key for `openrouter`."""
    changes = {"openrouter_api_key": SecretStr("sk-router"), "openrouter_base_url": upstream.base_url}
    served = as_served(replace(settings, provider=settings.provider.model_copy(update=changes)))
    yield served
    with served.app_context():
        db.engine.dispose()


@pytest.fixture
def client(served: Flask) -> Iterator[FlaskClient]:
    yield served.test_client()
    with served.app_context():
        reset_provider(by=Actor(kind="command", name="test"))


def test_provider_is_switched_and_reset(client: FlaskClient, operator: LoggedInUser, user: LoggedInUser) -> None:
    def answers() -> str:
        turn = client.post("/api/chat", json={"message": "hello"}, headers=user.headers).get_json()["turn"]
        return str(turn["provider"])

    in_use = client.get(URL, headers=operator.headers).get_json()["in_use"]
    body = {"provider": "demo" if in_use == "openrouter" else "openrouter", "model": "some/model"}
    switched = client.put(f"{URL}/choice", json=body, headers=operator.headers)
    assert switched.get_json() == {
        "name": body["provider"],
        "model": "some/model",
        "previous": in_use,
        "previous_model": switched.get_json()["previous_model"],
    }
    assert answers() == body["provider"]
    listed = client.get(URL, headers=operator.headers).get_json()
    assert (listed["in_use"], listed["reason"]) == (body["provider"], f"chosen by {operator.id}")
    assert client.delete(f"{URL}/choice", headers=operator.headers).get_json()["name"] == in_use
    assert answers() == in_use
    acts = client.get("/api/admin/audit", query_string={"limit": 2}, headers=operator.headers).get_json()["items"]
    assert [(act["action"], act["target"], act["actor"], act["result"]) for act in acts] == [
        ("provider.reset", None, str(operator.id), "done"),
        ("provider.use", body["provider"], str(operator.id), "done"),
    ]


def test_unusable_provider_is_refused_and_audited(client: FlaskClient, operator: LoggedInUser) -> None:
    refused = client.put(f"{URL}/choice", json={"provider": "openai"}, headers=operator.headers)
    assert "OPENAI_API_KEY" in assert_problem(refused, 409, "conflict")["detail"]
    [act] = client.get("/api/admin/audit", query_string={"limit": 1}, headers=operator.headers).get_json()["items"]
    assert (act["action"], act["target"], act["result"]) == ("provider.use", "openai", "refused")
    for body in (
        {"provider": "nonsense"},
        {},
        {"provider": "demo", "model": ""},
        {"provider": "demo", "url": "http://x"},
    ):
        assert_problem(client.put(f"{URL}/choice", json=body, headers=operator.headers), 400, "invalid_input")


def test_provider_test_reports_result(client: FlaskClient, operator: LoggedInUser, upstream: Upstream) -> None:
    upstream.script = scripts.words(1)
    tested = client.post(f"{URL}/openrouter/test", headers=operator.headers).get_json()
    assert (tested["ok"], tested["answer"], tested["problem"]) == (True, "word0", None)
    upstream.script = scripts.api_error(401)
    tested = client.post(f"{URL}/openrouter/test", headers=operator.headers).get_json()
    assert (tested["ok"], tested["answer"]) == (False, None)
    assert "rejected the key" in tested["problem"]
    assert_problem(client.post(f"{URL}/nonsense/test", headers=operator.headers), 404, "not_found")
    assert_problem(client.post(f"{URL}/openai/test", headers=operator.headers), 409, "conflict")


def test_providers_require_operator(client: FlaskClient, user: LoggedInUser) -> None:
    answers = [
        client.get(URL, headers=user.headers),
        client.put(f"{URL}/choice", json={"provider": "demo"}, headers=user.headers),
        client.delete(f"{URL}/choice", headers=user.headers),
        client.post(f"{URL}/demo/test", headers=user.headers),
    ]
    assert {response.status_code for response in answers} == {403}


def test_test_of_a_provider_is_audited(client: FlaskClient, operator: LoggedInUser) -> None:
    for name, result, details in (
        ("demo", "done", {"ok": True, "model": "demo"}),
        ("openai", "refused", {}),
        ("nonsense", "refused", {}),
    ):
        client.post(f"{URL}/{name}/test", headers=operator.headers)
        query = {"action": "provider.test", "limit": 1}
        [act] = client.get("/api/admin/audit", query_string=query, headers=operator.headers).get_json()["items"]
        assert (act["target"], act["result"], act["details"]) == (name, result, details)
        assert act["actor"] == str(operator.id)
    assert client.post(f"{URL}/a%00b/test", headers=operator.headers).status_code in (400, 404)
