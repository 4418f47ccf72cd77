"""Every key that is none, or is one no longer, is a 401 that says so: on plain routes and inside the turn alike."""

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

from app.models.columns import new_id
from tests.api.keys import Key, bearer, change_key, make_key, problem, refused
from tests.factories import Account

Send = Callable[[dict[str, str]], TestResponse]


@pytest.fixture(params=["plain route", "person's route", "chat"])
def send(request: pytest.FixtureRequest) -> Send:
    """Call with these headers, on each of the three ways in which a key is checked."""
    if request.param == "chat":
        chat_client: FlaskClient = request.getfixturevalue("chat_client")
        return lambda headers: chat_client.post("/api/chat", json={"message": "hello"}, headers=headers)
    client: FlaskClient = request.getfixturevalue("client")
    path = "/api/projects" if request.param == "plain route" else "/api/auth/me"
    return lambda headers: client.get(path, headers=headers)


@pytest.fixture
def key(flask_app: Flask, user: Account) -> Key:
    return make_key(flask_app, user)


def nothing_was_said(engine: Engine, user: Account) -> bool:
    with engine.connect() as connection:
        return (
            connection.execute(text("SELECT count(*) FROM messages WHERE user_id = :u"), {"u": user.id}).scalar_one()
            == 0
        )


def forged(user_id: Any, key_id: Any, secret: str) -> str:
    ids = base64.urlsafe_b64encode(key_id.bytes + user_id.bytes).rstrip(b"=").decode()
    return f"prl_{ids}_{secret}"


def test_forging_makes_what_is_given_out(key: Key, user: Account) -> None:
    """What follows is refused for what it differs in, not for how this file makes it."""
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
def test_a_key_that_has_ended_says_how(
    send: Send, engine: Engine, user: Account, key: Key, change: str, words: str
) -> None:
    change_key(engine, key, change)
    refused(send(key.headers), words)
    assert nothing_was_said(engine, user)


def test_a_key_that_expires_later_is_let_in(client: FlaskClient, engine: Engine, key: Key) -> None:
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
def test_a_key_dies_with_its_owner(
    send: Send, engine: Engine, user: Account, key: Key, change: str, words: str
) -> None:
    with engine.begin() as connection:
        connection.execute(text(change), {"u": user.id})
    refused(send(key.headers), words)
    assert nothing_was_said(engine, user)


def test_a_disabled_owner_who_is_enabled_again_has_the_key_again(
    client: FlaskClient, engine: Engine, user: Account, key: Key
) -> None:
    for status, answer in (("disabled", 401), ("active", 200)):
        with engine.begin() as connection:
            connection.execute(text("UPDATE users SET status = :s WHERE id = :u"), {"s": status, "u": user.id})
        assert client.get("/api/projects", headers=key.headers).status_code == answer


def test_a_changed_password_and_a_logout_leave_keys_alone(client: FlaskClient, user: Account, key: Key) -> None:
    """Programs know nothing of either; a key is revoked by itself."""
    body = {"current_password": user.password, "new_password": "another horse"}
    assert client.post("/api/auth/password", json=body, headers=user.headers).status_code == 204
    problem(client.get("/api/projects", headers=user.headers), 401, "not_authenticated")
    assert client.get("/api/projects", headers=key.headers).status_code == 200


def test_ids_and_secrets_that_do_not_belong_together(
    send: Send, flask_app: Flask, engine: Engine, user: Account, other_user: Account, key: Key
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
        refused(send(bearer(forged(user_id, key_id, secret))), "no such API key")
    assert nothing_was_said(engine, user)
    assert nothing_was_said(engine, other_user)


def test_another_spelling_of_the_same_ids_is_another_key(client: FlaskClient, key: Key) -> None:
    """The last of 43 base64 characters has bits to spare; the hash is of the text, so they are not."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = alphabet[alphabet.index(key.secret[46]) ^ 1]
    refused(client.get("/api/projects", headers=bearer(key.secret[:46] + spare + key.secret[47:])), "no such API key")


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
        "{key}\t",
        "{key}=",
        "{key:.90}",
        "prl_é{key:.85}",
    ],
)
def test_what_is_not_a_whole_key(send: Send, key: Key, spoiled: str) -> None:
    sent = spoiled.replace("{43}", "A" * 43).replace("{key:.90}", key.secret[:90])
    sent = sent.replace("{key:.85}", key.secret[5:90]).replace("{key}", key.secret)
    answer = send({"Authorization": f"Bearer {sent}"})
    refused(answer, "not a whole API key")
    assert key.secret not in answer.text


@pytest.mark.parametrize("header", ["{key}", "Basic {key}", "Token {key}", "Bearer", "PRL_ {key}", "Bearer PRL_x"])
def test_a_key_that_is_not_sent_as_a_bearer_token(send: Send, key: Key, header: str) -> None:
    refused(send({"Authorization": header.replace("{key}", key.secret)}), "access token")


@settings(max_examples=80)
@example(sent="_" * 87)
@example(sent="-" * 43 + "_" + "\x00" * 43)
@given(sent=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=100))
def test_nothing_behind_the_mark_makes_it_stumble(flask_app: Flask, sent: str) -> None:
    header = {"Authorization": f"Bearer prl_{sent}"}
    answer = flask_app.test_client().get("/api/projects", headers=header)
    problem(answer, 401, "not_authenticated")


def test_a_key_elsewhere_than_in_the_header_is_not_looked_at(client: FlaskClient, key: Key) -> None:
    problem(client.get(f"/api/projects?api_key={key.secret}"), 401, "not_authenticated")
    client.set_cookie("Authorization", f"Bearer {key.secret}")
    problem(client.get("/api/projects", headers={"X-API-Key": key.secret}), 401, "not_authenticated")
