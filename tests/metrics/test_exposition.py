"""GET /metrics: formats, access, and independence of the database."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from pydantic import SecretStr, ValidationError

from app.api.access import is_ops_caller
from app.config import Server, Settings
from app.factory import create_app
from tests.factories import LoggedInUser
from tests.metrics.scrape import Since, parse

TOKEN = "0123456789abcdef-metrics"


@pytest.fixture(scope="module")
def make_app(settings: Settings) -> Callable[..., Flask]:
    """Return a function that makes an application without a database; keyword arguments are server settings."""

    def make(**server: Any) -> Flask:
        unreachable = "postgresql+psycopg2://parley@127.0.0.1:1/nothing"
        return create_app(
            replace(
                settings,
                server=settings.server.model_copy(update=server),
                database=settings.database.model_copy(update={"url": unreachable}),
            )
        )

    return make


@pytest.fixture(scope="module")
def with_token(make_app: Callable[..., Flask]) -> FlaskClient:
    return make_app(host="0.0.0.0", ops_token=SecretStr(TOKEN)).test_client()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("accept", [None, "", "*/*", "text/html", "garbage;;;=,", "text/plain; version=0.0.4", "é"])
def test_other_accept_headers_get_plain_text(client: FlaskClient, accept: str | None) -> None:
    response = client.get("/metrics", headers={} if accept is None else {"Accept": accept})
    assert response.status_code == 200
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert "parley_turns_total" in parse(response.text).names()


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text",
        "application/openmetrics-text; version=1.0.0",
        # as Prometheus 3 sends it
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    ],
)
def test_openmetrics_is_returned_on_request(client: FlaskClient, accept: str) -> None:
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert response.text.endswith("# EOF\n")
    families = {family.name: family for family in openmetrics_families(response.text)}
    assert families["parley_turns"].type == "counter"
    assert families["parley_db_query_duration_seconds"].type == "histogram"


@pytest.mark.parametrize("version", ["9.9", "x", "1.0.0\x7f", "", "1.0.0; version=2", "٣"])
def test_unknown_version_is_no_error(client: FlaskClient, version: str) -> None:
    for kind in ("application/openmetrics-text", "text/plain"):
        response = client.get("/metrics", headers={"Accept": f"{kind}; version={version}"})
        assert response.status_code == 200
        assert "parley_turns" in response.text


def test_scrape_needs_no_database(make_app: Callable[..., Flask], since: Since) -> None:
    response = make_app().test_client().get("/metrics")
    assert response.status_code == 200
    assert since.counted("db_pool_wait_seconds_count") == 0
    assert since.counted("db_query_duration_seconds_count") == 0


def test_scrape_is_not_cached(client: FlaskClient) -> None:
    assert client.get("/metrics").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("header", [{}, bearer(TOKEN), {"Authorization": "Basic eDp5"}, {"Authorization": "\x01"}])
def test_loopback_client_needs_no_token(client: FlaskClient, header: dict[str, str]) -> None:
    assert client.get("/metrics", headers=header).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_host_is_open_without_token(make_app: Callable[..., Flask], host: str) -> None:
    assert make_app(host=host).test_client().get("/metrics").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "example.org", "localhost.example.org", ""])
def test_public_host_without_token_is_closed(make_app: Callable[..., Flask], host: str) -> None:
    client = make_app(host=host).test_client()
    for header in ({}, bearer(TOKEN), bearer("")):
        response = client.get("/metrics", headers=header)
        assert response.status_code == 403
        assert "OPS_TOKEN" in response.get_json()["detail"]
        assert "parley_" not in response.text


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host"])
def test_proxied_request_is_not_loopback(client: FlaskClient, header: str) -> None:
    assert client.get("/metrics", headers={header: "203.0.113.7"}).status_code == 403


def test_ops_token_gives_access(with_token: FlaskClient) -> None:
    assert with_token.get("/metrics", headers=bearer(TOKEN)).status_code == 200
    forwarded = {**bearer(TOKEN), "X-Forwarded-For": "203.0.113.7"}
    assert with_token.get("/metrics", headers=forwarded).status_code == 200
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
def test_other_credentials_are_rejected(with_token: FlaskClient, header: dict[str, str]) -> None:
    response = with_token.get("/metrics", headers=header)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "OPS_TOKEN" in response.get_json()["detail"]
    assert TOKEN not in response.text
    assert with_token.get(f"/metrics?token={TOKEN}").status_code == 401


def test_loopback_client_needs_configured_token(make_app: Callable[..., Flask]) -> None:
    client = make_app(host="127.0.0.1", ops_token=SecretStr(TOKEN)).test_client()
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=bearer(TOKEN)).status_code == 200


def test_user_token_is_rejected(with_token: FlaskClient, user: LoggedInUser) -> None:
    assert with_token.get("/metrics", headers=user.headers).status_code == 401


def test_ops_caller_is_true_with_token(make_app: Callable[..., Flask]) -> None:
    """The details of /health/ready use it."""
    closed = make_app(host="0.0.0.0", ops_token=SecretStr(TOKEN))
    with closed.test_request_context(headers=bearer(TOKEN)):
        assert is_ops_caller()
    with closed.test_request_context():
        assert not is_ops_caller()


def test_short_ops_token_is_invalid() -> None:
    with pytest.raises(ValidationError):
        Server.model_validate({"OPS_TOKEN": "short"})
