"""Limits of requests per minute: their subjects, their headers, and the requests that do not count."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from app.config import Settings
from app.enums import KeyScope
from app.extensions import db
from app.factory import create_app
from app.services import api_keys
from app.services.identity import Identity
from tests.factories import LoggedInUser
from tests.metrics.scrape import Since

LISTED = "/api/conversations"


@pytest.fixture
def make_client(settings: Settings, flask_app: Flask) -> Iterator[Callable[..., FlaskClient]]:
    """Yield a function that makes an application with empty counters; keyword arguments are its limits."""
    made: list[Flask] = []

    def make(**limits: int) -> FlaskClient:
        changed = settings.limits.model_copy(update=limits)
        cors = settings.server.model_copy(update={"cors_origins": ("https://page.example",)})
        made.append(create_app(replace(settings, limits=changed, server=cors)))
        return made[-1].test_client()

    yield make
    for flask_app in made:
        with flask_app.app_context():
            db.engine.dispose()


def statuses(client: FlaskClient, times: int, headers: Any = None, path: str = LISTED) -> list[int]:
    return [client.get(path, headers=headers).status_code for _ in range(times)]


def make_key(client: FlaskClient, account: LoggedInUser, *scopes: KeyScope) -> dict[str, str]:
    with client.application.app_context():
        made = api_keys.create(Identity(account.id), name="program", scopes=scopes or [KeyScope.READ])
    return {"Authorization": f"Bearer {made.secret}"}


def test_user_over_limit_gets_429_with_retry_after(
    make_client: Callable[..., FlaskClient], user: LoggedInUser, other_user: LoggedInUser
) -> None:
    client, since = make_client(user_per_minute=3), Since()
    assert statuses(client, 3, user.headers) == [200] * 3
    refused = client.get(LISTED, headers={**user.headers, "Origin": "https://page.example"})
    assert (refused.status_code, refused.content_type) == (429, "application/problem+json")
    seconds = int(refused.headers["Retry-After"])
    assert 1 <= seconds <= 60
    assert refused.json is not None
    assert refused.json["code"] == "rate_limited"
    assert refused.json["detail"] == f"More than 3 requests a minute of one user; try again in {seconds} seconds."
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    # A page of another origin can read it.
    assert refused.headers["Access-Control-Allow-Origin"] == "https://page.example"
    assert {"Retry-After", "X-RateLimit-Reset"} <= set(refused.headers["Access-Control-Expose-Headers"].split(", "))
    assert statuses(client, 1, other_user.headers) == [200]
    assert since.counted("rate_limit_rejections_total", limit="user") == 1


def test_each_response_has_limit_headers(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = make_client(user_per_minute=5)
    answers = [client.get(path, headers=user.headers) for path in (LISTED, "/api/auth/me", f"{LISTED}/{user.id}")]
    assert [answer.status_code for answer in answers] == [200, 200, 404]
    assert [answer.headers["X-RateLimit-Limit"] for answer in answers] == ["5"] * 3
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["4", "3", "2"]
    [end] = {answer.headers["X-RateLimit-Reset"] for answer in answers}
    assert 0 < int(end) - time.time() <= 61
    assert not any("Retry-After" in answer.headers for answer in answers)
    assert int(end) - time.time() > 30


def test_limit_is_checked_before_database(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = make_client(user_per_minute=1)
    seen = list[str]()
    with client.application.app_context():
        event.listen(db.engine, "checkout", lambda *_: seen.append("checkout"))
    assert statuses(client, 1, user.headers) == [200]
    before = len(seen)
    assert before > 0
    assert statuses(client, 5, user.headers) == [429] * 5
    assert len(seen) == before


def test_unauthenticated_requests_count_by_address(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client, since = make_client(address_per_minute=3), Since()
    wrong = {"Authorization": f"Bearer {user.access_token}x"}
    assert statuses(client, 2, wrong) == [401, 401]
    login = {"email": user.email, "password": "not this one"}
    assert client.post("/api/auth/login", json=login).status_code == 401
    refused = client.get(LISTED)
    assert refused.status_code == 429
    assert refused.json is not None
    assert "from one address without a token" in refused.json["detail"]
    # Known users and other addresses are not make_client by it.
    assert statuses(client, 1, user.headers) == [200]
    assert client.get(LISTED, environ_overrides={"REMOTE_ADDR": "192.0.2.7"}).status_code == 401
    assert since.counted("rate_limit_rejections_total", limit="address") == 1


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "/run/parley.sock", True),
    ],
)
def test_ipv6_network_counts_as_one_address(
    make_client: Callable[..., FlaskClient], first: str, second: str, same: bool
) -> None:
    client = make_client(address_per_minute=1)
    codes = [client.get(LISTED, environ_overrides={"REMOTE_ADDR": address}).status_code for address in (first, second)]
    assert codes == [401, 429 if same else 401]


def test_key_requests_count_for_key_and_owner(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = make_client(user_per_minute=6, key_per_minute=3)
    first_key, second_key = make_key(client, user), make_key(client, user)
    assert statuses(client, 4, first_key) == [200] * 4  # the first for its address, because the key is not verified yet
    refused = client.get(LISTED, headers=first_key)
    assert refused.status_code == 429
    assert refused.json is not None
    assert "with one API key" in refused.json["detail"]
    assert statuses(client, 3, second_key) == [200] * 3
    # 5 requests with the keys count for their owner; the rejected one and the first of each key do not.
    assert statuses(client, 3, user.headers) == [200, 429, 429]


def test_forged_keys_do_not_count_for_owner(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = make_client(user_per_minute=3, key_per_minute=3, address_per_minute=8)
    key = make_key(client, user)
    assert statuses(client, 1, key) == [200]
    forged = {"Authorization": key["Authorization"][:-8] + "AAAAAAAA"}
    assert statuses(client, 8, forged) == [401] * 7 + [429]
    assert statuses(client, 3, key) == [200] * 3


def test_monitoring_and_preflight_are_not_limited(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = make_client(address_per_minute=1, user_per_minute=1)
    assert statuses(client, 2) == [401, 429]
    for path in ("/health", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "X-RateLimit-Limit" not in answer.headers
    preflight = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    assert [client.options("/api/chat", headers=preflight).status_code for _ in range(3)] == [204] * 3
    assert client.options(LISTED).status_code == 200


def test_without_limits_there_are_no_headers(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = make_client()
    answer = client.get(LISTED, headers=user.headers)
    assert answer.status_code == 200
    assert not [name for name, _ in answer.headers if name.startswith("X-RateLimit")]


def test_rejected_chat_starts_no_turn(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = make_client(user_per_minute=1)
    sent = [client.post("/api/chat", json={"message": "hello"}, headers=user.headers) for _ in range(2)]
    assert [answer.status_code for answer in sent] == [200, 429]
    with client.application.app_context(), db.engine.connect() as connection:
        turns = connection.exec_driver_sql(
            "SELECT count(*) FROM turns WHERE user_id = %(user)s", {"user": user.id}
        ).scalar_one()
    assert turns == 1
