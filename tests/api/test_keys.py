"""API keys as their owner has them: made, shown once, listed, revoked, and used."""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.logs import redact
from app.models.columns import new_id
from tests.api.keys import bearer, make_key, problem
from tests.api.rows import walk
from tests.factories import Account

KEYS = "/api/auth/keys"


def test_a_key_from_its_making_to_its_end(client: FlaskClient, engine: Engine, user: Account) -> None:
    body = {"name": "nightly ✓", "scopes": ["read", "chat"], "expires_in_days": 30}
    made = client.post(KEYS, json=body, headers=user.headers)
    assert made.status_code == 201, made.text
    assert made.headers["Cache-Control"] == "no-store"
    shown = made.json
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
    assert client.get("/api/conversations", headers={"Authorization": f"bearer  {key} "}).status_code == 200

    for _ in range(2):  # to revoke it twice is no error, and changes nothing
        gone = client.delete(f"{KEYS}/{shown['id']}", headers=user.headers)
        assert (gone.status_code, gone.data) == (204, b"")
        problem(client.get("/api/conversations", headers=bearer(key)), 401, "not_authenticated")
    [item] = (client.get(KEYS, headers=user.headers).json or {})["items"]
    assert item["revoked_at"] is not None
    with engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM api_keys WHERE user_id = :u"), {"u": user.id}).one()
    assert bytes(row.key_hash) == hashlib.sha256(key.encode()).digest()
    assert key[len(shown["prefix"]) :] not in repr(row)
    assert row.revoked_at <= datetime.now(UTC)


def test_two_keys_differ_in_all_that_is_secret_and_in_what_is_shown(flask_app: Flask, user: Account) -> None:
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
def test_what_makes_no_key_names_the_field(
    client: FlaskClient, engine: Engine, user: Account, body: Any, field: str
) -> None:
    answer = client.post(KEYS, json=body, headers=user.headers)
    assert set(problem(answer, 400, "invalid_input")["errors"]) == {field}
    with engine.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM api_keys WHERE user_id = :u"), {"u": user.id})
        assert count.scalar_one() == 0


def test_a_scope_named_twice_is_had_once_and_no_expiry_is_none(client: FlaskClient, user: Account) -> None:
    body = {"name": "x", "scopes": ["write", "read", "write"], "expires_in_days": None}
    made = client.post(KEYS, json=body, headers=user.headers).json or {}
    assert (made["scopes"], made["expires_at"]) == (["read", "write"], None)


@pytest.mark.parametrize(("role", "status"), [("user", 403), ("operator", 403), ("admin", 201)])
def test_only_an_admin_makes_a_key_with_the_scope_admin(
    client: FlaskClient, make_user: Callable[..., Account], role: str, status: int
) -> None:
    account = make_user(role=role)
    made = client.post(KEYS, json={"name": "x", "scopes": ["admin", "read"]}, headers=account.headers)
    assert made.status_code == status
    if status == 403:
        assert "admin" in problem(made, 403, "not_allowed")["detail"]
        assert (client.get(KEYS, headers=account.headers).json or {})["items"] == []


def test_keys_are_listed_in_pages_and_only_to_their_owner(
    flask_app: Flask, client: FlaskClient, user: Account, other_user: Account
) -> None:
    made = [make_key(flask_app, user) for _ in range(5)]
    theirs = make_key(flask_app, other_user)
    items = walk(client, user, KEYS, limit=2)
    assert [item["id"] for item in items] == [str(key.id) for key in reversed(made)]
    everything = str(items)
    assert not [key for key in (*made, theirs) if key.secret[-43:] in everything]
    assert set(items[0]) == {
        "id", "name", "prefix", "scopes", "last_used_at", "expires_at", "revoked_at", "created_at"
    }  # fmt: skip


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "cursor=x", "cursor=", "q=1"])
def test_a_list_that_cannot_be_asked_for(client: FlaskClient, user: Account, query: str) -> None:
    problem(client.get(f"{KEYS}?{query}", headers=user.headers), 400, "invalid_input")


def test_somebody_elses_key_is_not_there_to_be_revoked(
    flask_app: Flask, client: FlaskClient, user: Account, other_user: Account
) -> None:
    theirs = make_key(flask_app, other_user)
    for key_id in (theirs.id, new_id()):
        problem(client.delete(f"{KEYS}/{key_id}", headers=user.headers), 404, "not_found")
    problem(client.delete(f"{KEYS}/x", headers=user.headers), 404, "not_found")
    assert client.get("/api/projects", headers=theirs.headers).status_code == 200


def test_a_key_sees_its_owners_rows_and_nobody_elses(
    flask_app: Flask, client: FlaskClient, user: Account, other_user: Account
) -> None:
    mine, theirs = make_key(flask_app, user), make_key(flask_app, other_user)
    made = client.post("/api/projects", json={"name": "secret"}, headers=mine.headers)
    url = made.headers["Location"]
    assert client.get(url, headers=user.headers).status_code == 200
    for answer in (
        client.get(url, headers=theirs.headers),
        client.patch(url, json={"name": "taken"}, headers=theirs.headers),
        client.delete(url, headers=theirs.headers),
    ):
        problem(answer, 404, "not_found")
    assert (client.get(url, headers=mine.headers).json or {})["name"] == "secret"


def test_a_log_line_with_a_key_in_it_does_not_show_it(flask_app: Flask, user: Account) -> None:
    secret = make_key(flask_app, user).secret
    for line in (f"sent {secret}!", f"Authorization: Bearer {secret}", f'{{"key": "{secret}"}}', f"/?k={secret}&x=1"):
        shown = redact(line)
        assert secret[-43:] not in shown
        assert secret[5:20] not in shown


def test_neither_logs_nor_errors_nor_objects_show_a_key(
    flask_app: Flask, client: FlaskClient, user: Account, caplog: pytest.LogCaptureFixture
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
