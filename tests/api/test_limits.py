"""Requests a minute: whose they are, what is told, and what is never counted."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.models import KeyScope
from app.services import api_keys
from app.services.identity import Identity
from tests.factories import Account
from tests.metrics.scrape import Since

LISTED = "/api/conversations"


@pytest.fixture
def limited(settings: Settings, flask_app: Flask) -> Iterator[Callable[..., FlaskClient]]:
    """A function that makes an application of its own, with nothing counted yet; keyword arguments are its limits."""
    made: list[Flask] = []

    def make(**limits: int) -> FlaskClient:
        changed = settings.limits.model_copy(update=limits)
        cors = settings.server.model_copy(update={"cors_origins": ("https://page.example",)})
        made.append(create_app(replace(settings, limits=changed, server=cors)))
        return made[-1].test_client()

    yield make
    for each in made:
        with each.app_context():
            db.engine.dispose()


def statuses(client: FlaskClient, times: int, headers: Any = None, path: str = LISTED) -> list[int]:
    return [client.get(path, headers=headers).status_code for _ in range(times)]


def make_key(client: FlaskClient, account: Account, *scopes: KeyScope) -> dict[str, str]:
    with client.application.app_context():
        made = api_keys.create(Identity(account.id), name="program", scopes=scopes or [KeyScope.READ])
    return {"Authorization": f"Bearer {made.secret}"}


def test_a_user_beyond_the_limit_is_told_when_to_come_back(
    limited: Callable[..., FlaskClient], user: Account, other_user: Account
) -> None:
    client, since = limited(user_per_minute=3), Since()
    assert statuses(client, 3, user.headers) == [200] * 3
    refused = client.get(LISTED, headers={**user.headers, "Origin": "https://page.example"})
    assert (refused.status_code, refused.content_type) == (429, "application/problem+json")
    seconds = int(refused.headers["Retry-After"])
    assert 1 <= seconds <= 60
    assert refused.json is not None
    assert refused.json["code"] == "rate_limited"
    assert refused.json["detail"] == f"More than 3 requests a minute of one user; try again in {seconds} seconds."
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    # A page elsewhere can read all of it.
    assert refused.headers["Access-Control-Allow-Origin"] == "https://page.example"
    assert {"Retry-After", "X-RateLimit-Reset"} <= set(refused.headers["Access-Control-Expose-Headers"].split(", "))
    assert statuses(client, 1, other_user.headers) == [200]
    assert since.counted("limit_refusals_total", limit="user") == 1


def test_every_answer_says_how_much_is_left(limited: Callable[..., FlaskClient], user: Account) -> None:
    client = limited(user_per_minute=5)
    answers = [client.get(path, headers=user.headers) for path in (LISTED, "/api/auth/me", f"{LISTED}/{user.id}")]
    assert [answer.status_code for answer in answers] == [200, 200, 404]
    assert [answer.headers["X-RateLimit-Limit"] for answer in answers] == ["5"] * 3
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["4", "3", "2"]
    [end] = {answer.headers["X-RateLimit-Reset"] for answer in answers}
    assert 0 < int(end) - time.time() <= 61
    assert not any("Retry-After" in answer.headers for answer in answers)
    assert int(end) - time.time() > 30


def test_the_limit_comes_before_the_database(limited: Callable[..., FlaskClient], user: Account) -> None:
    client = limited(user_per_minute=1)
    seen = list[str]()
    with client.application.app_context():
        event.listen(db.engine, "checkout", lambda *_: seen.append("checkout"))
    assert statuses(client, 1, user.headers) == [200]
    before = len(seen)
    assert before > 0
    assert statuses(client, 5, user.headers) == [429] * 5
    assert len(seen) == before


def test_whoever_is_nobody_counts_by_address(limited: Callable[..., FlaskClient], user: Account) -> None:
    client, since = limited(address_per_minute=3), Since()
    wrong = {"Authorization": f"Bearer {user.access_token}x"}
    assert statuses(client, 2, wrong) == [401, 401]
    login = {"email": user.email, "password": "not this one"}
    assert client.post("/api/auth/login", json=login).status_code == 401
    refused = client.get(LISTED)
    assert refused.status_code == 429
    assert refused.json is not None
    assert "from one address without a token" in refused.json["detail"]
    # Neither does the address keep others waiting who are known, nor another address at all.
    assert statuses(client, 1, user.headers) == [200]
    assert client.get(LISTED, environ_overrides={"REMOTE_ADDR": "192.0.2.7"}).status_code == 401
    assert since.counted("limit_refusals_total", limit="address") == 1


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
def test_an_ipv6_customer_is_one_address(
    limited: Callable[..., FlaskClient], first: str, second: str, same: bool
) -> None:
    client = limited(address_per_minute=1)
    found = [client.get(LISTED, environ_overrides={"REMOTE_ADDR": each}).status_code for each in (first, second)]
    assert found == [401, 429 if same else 401]


def test_keys_count_for_themselves_and_for_their_owner(limited: Callable[..., FlaskClient], user: Account) -> None:
    client = limited(user_per_minute=6, key_per_minute=3)
    one, two = make_key(client, user), make_key(client, user)
    assert statuses(client, 4, one) == [200] * 4  # the first, for its address: the key had not been seen here
    refused = client.get(LISTED, headers=one)
    assert refused.status_code == 429
    assert refused.json is not None
    assert "with one API key" in refused.json["detail"]
    assert statuses(client, 3, two) == [200] * 3
    # 3 with the one key and 2 with the other have been theirs; who is refused for a key does not count for its owner.
    assert statuses(client, 3, user.headers) == [200, 429, 429]


def test_forging_somebodys_key_does_not_use_up_their_share(limited: Callable[..., FlaskClient], user: Account) -> None:
    client = limited(user_per_minute=3, key_per_minute=3, address_per_minute=8)
    key = make_key(client, user)
    assert statuses(client, 1, key) == [200]
    forged = {"Authorization": key["Authorization"][:-8] + "AAAAAAAA"}
    assert statuses(client, 8, forged) == [401] * 7 + [429]
    assert statuses(client, 3, key) == [200] * 3


def test_what_watches_the_server_is_never_counted(limited: Callable[..., FlaskClient], user: Account) -> None:
    client = limited(address_per_minute=1, user_per_minute=1)
    assert statuses(client, 2) == [401, 429]
    for path in ("/health", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "X-RateLimit-Limit" not in answer.headers
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    assert [client.options("/api/chat", headers=asked).status_code for _ in range(3)] == [204] * 3
    assert client.options(LISTED).status_code == 200


def test_without_limits_nothing_is_counted_or_told(limited: Callable[..., FlaskClient], user: Account) -> None:
    client = limited()
    answer = client.get(LISTED, headers=user.headers)
    assert answer.status_code == 200
    assert not [name for name, _ in answer.headers if name.startswith("X-RateLimit")]


def test_a_limit_of_turns_reaches_chat_before_it_begins(limited: Callable[..., FlaskClient], user: Account) -> None:
    client = limited(user_per_minute=1)
    sent = [client.post("/api/chat", json={"message": "hello"}, headers=user.headers) for _ in range(2)]
    assert [each.status_code for each in sent] == [200, 429]
    with client.application.app_context(), db.engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT count(*) FROM turns WHERE user_id = %(user)s", {"user": user.id}
        ).scalar_one()
    assert found == 1
