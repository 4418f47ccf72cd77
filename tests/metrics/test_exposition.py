"""GET /metrics: in the format that is asked for, for those who may see it, and without a database."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from pydantic import SecretStr, ValidationError

from app.api.access import ops_caller
from app.config import Server, Settings
from app.factory import create_app
from tests.factories import Account
from tests.metrics.scrape import Since, parse

TOKEN = "0123456789abcdef-metrics"


@pytest.fixture(scope="module")
def make_app(settings: Settings) -> Callable[..., Flask]:
    """A function that makes an application without a database; keyword arguments are settings of the server."""

    def make(**server: Any) -> Flask:
        nowhere = "postgresql+psycopg2://nobody@127.0.0.1:1/nothing"
        return create_app(
            replace(
                settings,
                server=settings.server.model_copy(update=server),
                database=settings.database.model_copy(update={"url": nowhere}),
            )
        )

    return make


@pytest.fixture(scope="module")
def with_token(make_app: Callable[..., Flask]) -> FlaskClient:
    return make_app(host="0.0.0.0", ops_token=SecretStr(TOKEN)).test_client()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("accept", [None, "", "*/*", "text/html", "garbage;;;=,", "text/plain; version=0.0.4", "é"])
def test_plain_text_is_what_everybody_understands(client: FlaskClient, accept: str | None) -> None:
    response = client.get("/metrics", headers={} if accept is None else {"Accept": accept})
    assert response.status_code == 200
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert "parley_turns_total" in parse(response.text).names()


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text",
        "application/openmetrics-text; version=1.0.0",
        # What Prometheus 3 sends.
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    ],
)
def test_openmetrics_for_those_who_ask_for_it(client: FlaskClient, accept: str) -> None:
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert response.text.endswith("# EOF\n")
    families = {family.name: family for family in openmetrics_families(response.text)}
    assert families["parley_turns"].type == "counter"
    assert families["parley_db_query_duration_seconds"].type == "histogram"


@pytest.mark.parametrize("version", ["9.9", "x", "1.0.0\x7f", "", "1.0.0; version=2", "٣"])
def test_a_version_that_nobody_knows_is_no_error(client: FlaskClient, version: str) -> None:
    for kind in ("application/openmetrics-text", "text/plain"):
        response = client.get("/metrics", headers={"Accept": f"{kind}; version={version}"})
        assert response.status_code == 200
        assert "parley_turns" in response.text


def test_a_scrape_needs_no_database(make_app: Callable[..., Flask], since: Since) -> None:
    response = make_app().test_client().get("/metrics")
    assert response.status_code == 200
    assert since.counted("db_pool_wait_seconds_count") == 0
    assert since.counted("db_query_duration_seconds_count") == 0


def test_a_scrape_is_not_kept(client: FlaskClient) -> None:
    assert client.get("/metrics").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("header", [{}, bearer(TOKEN), {"Authorization": "Basic eDp5"}, {"Authorization": "\x01"}])
def test_without_a_token_this_machine_may_see_it(client: FlaskClient, header: dict[str, str]) -> None:
    assert client.get("/metrics", headers=header).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_every_loopback_address_is_this_machine(make_app: Callable[..., Flask], host: str) -> None:
    assert make_app(host=host).test_client().get("/metrics").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "example.org", "localhost.example.org", ""])
def test_without_a_token_a_server_for_others_keeps_it_closed(make_app: Callable[..., Flask], host: str) -> None:
    client = make_app(host=host).test_client()
    for header in ({}, bearer(TOKEN), bearer("")):
        response = client.get("/metrics", headers=header)
        assert response.status_code == 403
        assert "OPS_TOKEN" in response.get_json()["detail"]
        assert "parley_" not in response.text


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host"])
def test_whom_a_proxy_lets_in_is_not_this_machine(client: FlaskClient, header: str) -> None:
    assert client.get("/metrics", headers={header: "203.0.113.7"}).status_code == 403


def test_the_token_opens_it(with_token: FlaskClient) -> None:
    assert with_token.get("/metrics", headers=bearer(TOKEN)).status_code == 200
    passed_on = {**bearer(TOKEN), "X-Forwarded-For": "203.0.113.7"}
    assert with_token.get("/metrics", headers=passed_on).status_code == 200
    assert with_token.get("/metrics", headers={"Authorization": f"bearer  {TOKEN}"}).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        {},
        bearer(""),
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "x"),
        bearer(TOKEN.upper()),
        bearer("é" * 8),
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"X-Ops-Token": TOKEN},
    ],
)
def test_nothing_else_opens_it(with_token: FlaskClient, header: dict[str, str]) -> None:
    response = with_token.get("/metrics", headers=header)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "OPS_TOKEN" in response.get_json()["detail"]
    assert TOKEN not in response.text
    assert with_token.get(f"/metrics?token={TOKEN}").status_code == 401


def test_with_a_token_set_this_machine_needs_it_too(make_app: Callable[..., Flask]) -> None:
    client = make_app(host="127.0.0.1", ops_token=SecretStr(TOKEN)).test_client()
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=bearer(TOKEN)).status_code == 200


def test_a_users_token_is_none_of_it(with_token: FlaskClient, user: Account) -> None:
    assert with_token.get("/metrics", headers=user.headers).status_code == 401


def test_others_may_ask_who_is_calling(make_app: Callable[..., Flask]) -> None:
    """As the details of /health/ready do."""
    closed = make_app(host="0.0.0.0", ops_token=SecretStr(TOKEN))
    with closed.test_request_context(headers=bearer(TOKEN)):
        assert ops_caller()
    with closed.test_request_context():
        assert not ops_caller()


def test_a_token_is_not_short() -> None:
    with pytest.raises(ValidationError):
        Server(OPS_TOKEN="short")
