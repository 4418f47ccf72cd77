"""Invalid and ended API keys: each is a 401, on plain routes and in the statement of a turn."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.ids import new_id
from tests.api.keys import Key, change_key, make_key
from tests.api.responses import assert_problem, assert_unauthenticated, bearer
from tests.factories import LoggedInUser

Send = Callable[[dict[str, str]], TestResponse]


@pytest.fixture(params=["plain route", "session route", "chat"])
def send(request: pytest.FixtureRequest) -> Send:
    """Return a function that sends a request with these headers, for each of the three ways to check a key."""
    if request.param == "chat":
        chat_client: FlaskClient = request.getfixturevalue("chat_client")
        return lambda headers: chat_client.post("/api/chat", json={"message": "hello"}, headers=headers)
    client: FlaskClient = request.getfixturevalue("client")
    path = "/api/projects" if request.param == "plain route" else "/api/auth/me"
    return lambda headers: client.get(path, headers=headers)


@pytest.fixture
def key(flask_app: Flask, user: LoggedInUser) -> Key:
    return make_key(flask_app, user)


def has_no_messages(engine: Engine, user: LoggedInUser) -> bool:
    with engine.connect() as connection:
        return (
            connection.execute(text("SELECT count(*) FROM messages WHERE user_id = :u"), {"u": user.id}).scalar_one()
            == 0
        )


def forged(user_id: Any, key_id: Any, secret: str) -> str:
    ids = base64.urlsafe_b64encode(key_id.bytes + user_id.bytes).rstrip(b"=").decode()
    return f"prl_{ids}_{secret}"


def test_forged_without_changes_equals_issued_key(key: Key, user: LoggedInUser) -> None:
    """The control of the tests below: they fail for what they change, not because of `forged`."""
    assert forged(user.id, key.id, key.secret[-43:]) == key.secret


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("expires_at = now() - interval '1 second'", "expired"),
        ("expires_at = now()", "expired"),
        ("revoked_at = now()", "revoked"),
        ("revoked_at = now(), expires_at = now() - interval '1 day'", "revoked"),
        ("key_hash = decode(repeat('00', 32), 'hex')", "no such API key"),
    ],
)
def test_ended_key_is_401_with_reason(
    send: Send, engine: Engine, user: LoggedInUser, key: Key, change: str, words: str
) -> None:
    change_key(engine, key, change)
    assert_unauthenticated(send(key.headers), words)
    assert has_no_messages(engine, user)


def test_key_before_expiry_is_accepted(client: FlaskClient, engine: Engine, key: Key) -> None:
    change_key(engine, key, "expires_at = now() + interval '1 minute'")
    assert client.get("/api/projects", headers=key.headers).status_code == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE users SET status = 'disabled' WHERE id = :u", "disabled"),
        ("DELETE FROM users WHERE id = :u", "no such API key"),
        ("DELETE FROM api_keys WHERE user_id = :u", "no such API key"),
    ],
)
def test_key_of_deleted_or_disabled_owner_is_401(
    send: Send, engine: Engine, user: LoggedInUser, key: Key, change: str, words: str
) -> None:
    with engine.begin() as connection:
        connection.execute(text(change), {"u": user.id})
    assert_unauthenticated(send(key.headers), words)
    assert has_no_messages(engine, user)


def test_key_works_after_owner_is_enabled(client: FlaskClient, engine: Engine, user: LoggedInUser, key: Key) -> None:
    for status, answer in (("disabled", 401), ("active", 200)):
        with engine.begin() as connection:
            connection.execute(text("UPDATE users SET status = :s WHERE id = :u"), {"s": status, "u": user.id})
        assert client.get("/api/projects", headers=key.headers).status_code == answer


def test_change_password_and_logout_keep_keys(client: FlaskClient, user: LoggedInUser, key: Key) -> None:
    """Only revocation and expiry end a key."""
    body = {"current_password": user.password, "new_password": "another horse"}
    assert client.post("/api/auth/password", json=body, headers=user.headers).status_code == 204
    assert_problem(client.get("/api/projects", headers=user.headers), 401, "not_authenticated")
    assert client.get("/api/projects", headers=key.headers).status_code == 200


def test_key_with_ids_of_other_key_is_401(
    send: Send, flask_app: Flask, engine: Engine, user: LoggedInUser, other_user: LoggedInUser, key: Key
) -> None:
    other = make_key(flask_app, user)
    theirs = make_key(flask_app, other_user)
    for user_id, key_id, secret in (
        (user.id, key.id, other.secret[-43:]),
        (user.id, other.id, key.secret[-43:]),
        (other_user.id, key.id, key.secret[-43:]),
        (other_user.id, theirs.id, key.secret[-43:]),
        (user.id, theirs.id, theirs.secret[-43:]),
        (user.id, new_id(), key.secret[-43:]),
        (new_id(), key.id, key.secret[-43:]),
        (user.id, user.session_id, key.secret[-43:]),
    ):
        assert_unauthenticated(send(bearer(forged(user_id, key_id, secret))), "no such API key")
    assert has_no_messages(engine, user)
    assert has_no_messages(engine, other_user)


def test_key_with_other_base64_spelling_is_401(client: FlaskClient, key: Key) -> None:
    """The last of 43 base64 characters has unused bits, but the hash is of the text."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = alphabet[alphabet.index(key.secret[46]) ^ 1]
    assert_unauthenticated(
        client.get("/api/projects", headers=bearer(key.secret[:46] + spare + key.secret[47:])), "no such API key"
    )


@pytest.mark.parametrize(
    "spoiled",
    [
        "prl_",
        "prl_x",
        "prl_{43}",
        "{key}x",
        "{key} x",
        "{key},",
        "{key}, Bearer {key}",
        "{key}=",
        "{key:.90}",
        "prl_é{key:.85}",
    ],
)
def test_malformed_key_is_401(send: Send, key: Key, spoiled: str) -> None:
    sent = spoiled.replace("{43}", "A" * 43).replace("{key:.90}", key.secret[:90])
    sent = sent.replace("{key:.85}", key.secret[5:90]).replace("{key}", key.secret)
    answer = send({"Authorization": f"Bearer {sent}"})
    assert_unauthenticated(answer, "This API key is incomplete")
    assert key.secret not in answer.text


@pytest.mark.parametrize("header", ["{key}", "Basic {key}", "Token {key}", "Bearer", "PRL_ {key}", "Bearer PRL_x"])
def test_key_in_other_scheme_is_401(send: Send, key: Key, header: str) -> None:
    assert_unauthenticated(send({"Authorization": header.replace("{key}", key.secret)}), "access token")


@settings(max_examples=80)
@example(sent="_" * 87)
@example(sent="-" * 43 + "_" + "\x00" * 43)
@given(sent=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=100))
def test_arbitrary_text_after_prefix_is_401(flask_app: Flask, sent: str) -> None:
    header = {"Authorization": f"Bearer prl_{sent}"}
    answer = flask_app.test_client().get("/api/projects", headers=header)
    assert_problem(answer, 401, "not_authenticated")


def test_key_outside_of_header_is_ignored(client: FlaskClient, key: Key) -> None:
    assert_problem(client.get(f"/api/projects?api_key={key.secret}"), 401, "not_authenticated")
    client.set_cookie("Authorization", f"Bearer {key.secret}")
    assert_problem(client.get("/api/projects", headers={"X-API-Key": key.secret}), 401, "not_authenticated")
