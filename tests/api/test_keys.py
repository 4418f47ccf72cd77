"""API keys of a user: create, list, revoke and use."""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.ids import new_id
from app.logs import redact
from tests.api.keys import make_key
from tests.api.responses import assert_problem, bearer
from tests.api.rows import walk
from tests.factories import LoggedInUser

KEYS = "/api/auth/keys"


def test_create_list_use_and_revoke_key(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    body = {"name": "nightly ✓", "scopes": ["read", "chat"], "expires_in_days": 30}
    response = client.post(KEYS, json=body, headers=user.headers)
    assert response.status_code == 201, response.text
    assert response.headers["Cache-Control"] == "no-store"
    shown = response.json
    assert shown is not None
    key = shown.pop("key")
    assert re.fullmatch(r"prl_[\w-]{43}_[\w-]{43}", key)
    assert key.startswith(shown["prefix"])
    assert (shown["name"], shown["scopes"]) == ("nightly ✓", ["chat", "read"])
    assert (shown["last_used_at"], shown["revoked_at"]) == (None, None)
    life = datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["created_at"])
    assert abs(life - timedelta(days=30)) < timedelta(minutes=1)

    listed = client.get(KEYS, headers=user.headers).json
    assert listed == {"items": [shown], "next_cursor": None}
    assert client.get("/api/conversations", headers=bearer(key)).json == {"items": [], "next_cursor": None}
    for sent in (f"bearer  {key} ", f" BEARER \t{key}"):
        assert client.get("/api/conversations", headers={"Authorization": sent}).status_code == 200

    for _ in range(2):  # revoking it again is not an error
        revoked = client.delete(f"{KEYS}/{shown['id']}", headers=user.headers)
        assert (revoked.status_code, revoked.data) == (204, b"")
        assert_problem(client.get("/api/conversations", headers=bearer(key)), 401, "not_authenticated")
    [item] = (client.get(KEYS, headers=user.headers).json or {})["items"]
    assert item["revoked_at"] is not None
    with engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM api_keys WHERE user_id = :u"), {"u": user.id}).one()
    assert bytes(row.key_hash) == hashlib.sha256(key.encode()).digest()
    assert key[len(shown["prefix"]) :] not in repr(row)
    assert row.revoked_at <= datetime.now(UTC)


def test_two_keys_have_different_secrets_and_prefixes(flask_app: Flask, user: LoggedInUser) -> None:
    one, other = (make_key(flask_app, user).secret for _ in range(2))
    assert one[-43:] != other[-43:]
    assert one[:48] != other[:48]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scopes": ["read"]}, "name"),
        ({"name": " ", "scopes": ["read"]}, "name"),
        ({"name": "x" * 101, "scopes": ["read"]}, "name"),
        ({"name": "x"}, "scopes"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": "read"}, "scopes"),
        ({"name": "x", "scopes": ["everything"]}, "scopes.0"),
        ({"name": "x", "scopes": ["read", []]}, "scopes.1"),
        ({"name": "x", "scopes": ["READ"]}, "scopes.0"),
        ({"name": "x", "scopes": ["read"] * 5}, "scopes"),
        ({"name": "x", "scopes": ["read"], "expires_in_days": 0}, "expires_in_days"),
        ({"name": "x", "scopes": ["read"], "expires_in_days": 3651}, "expires_in_days"),
        ({"name": "x", "scopes": ["read"], "expires_in_days": 1.5}, "expires_in_days"),
        ({"name": "x", "scopes": ["read"], "expires_in_days": "soon"}, "expires_in_days"),
        ({"name": "x", "scopes": ["read"], "key": "prl_mine"}, "key"),
        ({"name": "x", "scopes": ["read"], "user_id": "018f0000-0000-7000-8000-000000000000"}, "user_id"),
        ({"name": "x", "scopes": ["read"], "revoked_at": None}, "revoked_at"),
    ],
    ids=str,
)
def test_create_invalid_field_is_400(
    client: FlaskClient, engine: Engine, user: LoggedInUser, body: Any, field: str
) -> None:
    answer = client.post(KEYS, json=body, headers=user.headers)
    assert set(assert_problem(answer, 400, "invalid_input")["errors"]) == {field}
    with engine.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM api_keys WHERE user_id = :u"), {"u": user.id})
        assert count.scalar_one() == 0


def test_create_repeated_scope_is_stored_once(client: FlaskClient, user: LoggedInUser) -> None:
    body = {"name": "x", "scopes": ["write", "read", "write"], "expires_in_days": None}
    response = client.post(KEYS, json=body, headers=user.headers).json or {}
    assert (response["scopes"], response["expires_at"]) == (["read", "write"], None)


@pytest.mark.parametrize(("role", "status"), [("user", 403), ("operator", 403), ("admin", 201)])
def test_create_admin_scope_requires_admin(
    client: FlaskClient, make_user: Callable[..., LoggedInUser], role: str, status: int
) -> None:
    account = make_user(role=role)
    response = client.post(KEYS, json={"name": "x", "scopes": ["admin", "read"]}, headers=account.headers)
    assert response.status_code == status
    if status == 403:
        assert "admin" in assert_problem(response, 403, "not_allowed")["detail"]
        assert (client.get(KEYS, headers=account.headers).json or {})["items"] == []


def test_list_is_paginated_and_only_for_owner(
    flask_app: Flask, client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    keys = [make_key(flask_app, user) for _ in range(5)]
    theirs = make_key(flask_app, other_user)
    items = walk(client, user, KEYS, limit=2)
    assert [item["id"] for item in items] == [str(key.id) for key in reversed(keys)]
    everything = str(items)
    assert not [key for key in (*keys, theirs) if key.secret[-43:] in everything]
    assert set(items[0]) == {
        "id", "name", "prefix", "scopes", "last_used_at", "expires_at", "revoked_at", "created_at"
    }  # fmt: skip


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "cursor=x", "cursor=", "q=1"])
def test_list_invalid_query_is_400(client: FlaskClient, user: LoggedInUser, query: str) -> None:
    assert_problem(client.get(f"{KEYS}?{query}", headers=user.headers), 400, "invalid_input")


def test_revoke_other_users_key_is_404(
    flask_app: Flask, client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    theirs = make_key(flask_app, other_user)
    for key_id in (theirs.id, new_id()):
        assert_problem(client.delete(f"{KEYS}/{key_id}", headers=user.headers), 404, "not_found")
    assert_problem(client.delete(f"{KEYS}/x", headers=user.headers), 404, "not_found")
    assert client.get("/api/projects", headers=theirs.headers).status_code == 200


def test_key_reads_only_its_owners_rows(
    flask_app: Flask, client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    mine, theirs = make_key(flask_app, user), make_key(flask_app, other_user)
    response = client.post("/api/projects", json={"name": "secret"}, headers=mine.headers)
    url = response.headers["Location"]
    assert client.get(url, headers=user.headers).status_code == 200
    for answer in (
        client.get(url, headers=theirs.headers),
        client.patch(url, json={"name": "taken"}, headers=theirs.headers),
        client.delete(url, headers=theirs.headers),
    ):
        assert_problem(answer, 404, "not_found")
    assert (client.get(url, headers=mine.headers).json or {})["name"] == "secret"


def test_log_line_redacts_key(flask_app: Flask, user: LoggedInUser) -> None:
    secret = make_key(flask_app, user).secret
    for line in (f"sent {secret}!", f"Authorization: Bearer {secret}", f'{{"key": "{secret}"}}', f"/?k={secret}&x=1"):
        shown = redact(line)
        assert secret[-43:] not in shown
        assert secret[5:20] not in shown


def test_key_is_in_no_log_error_or_repr(
    flask_app: Flask, client: FlaskClient, user: LoggedInUser, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_key(flask_app, user, ["read"])
    wrong = key.secret[:-1] + ("A" if key.secret[-1] != "A" else "B")
    with caplog.at_level("DEBUG"):
        answers = [
            client.get("/api/projects", headers=key.headers),
            client.get("/api/projects", headers=bearer(wrong)),
            client.get("/api/projects", headers=bearer(key.secret + "x")),
            client.post("/api/projects", json={"name": "x"}, headers=key.headers),
            client.post("/api/chat", json={"message": "x"}, headers=key.headers),
            client.get(f"/api/projects?key={key.secret}", headers=user.headers),
        ]
    assert [answer.status_code for answer in answers] == [200, 401, 401, 403, 403, 400]
    for answer in answers:
        assert key.secret[10:40] not in answer.text + str(answer.headers)
    assert caplog.records
    assert key.secret[-40:-2] not in caplog.text
