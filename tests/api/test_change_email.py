"""Change of the email address over HTTP."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.services import password_resets
from tests.api.responses import assert_problem
from tests.api.test_login_limits import make_client
from tests.factories import PASSWORD, LoggedInUser

__all__ = ["make_client"]  # a fixture


def change(client: FlaskClient, user: LoggedInUser, email: str, password: str = PASSWORD) -> TestResponse:
    return client.post("/api/auth/email", json={"email": email, "password": password}, headers=user.headers)


def log_in(client: FlaskClient, email: str) -> int:
    return client.post("/api/auth/login", json={"email": email, "password": PASSWORD}).status_code


def row_of(engine: Engine, user: LoggedInUser) -> tuple[Any, ...]:
    with engine.connect() as connection:
        return tuple(connection.execute(text("SELECT email, email_key FROM users WHERE id = :u"), {"u": user.id}).one())


def test_login_has_the_new_address_and_sessions_stay(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    new = f"Ada.{uuid4().hex}@Example.org"
    response = change(client, user, new)
    assert response.status_code == 200, response.text
    assert (response.json or {})["email"] == new
    assert row_of(engine, user) == (new, new.lower())
    assert (log_in(client, new.upper()), log_in(client, user.email)) == (200, 401)
    assert client.get("/api/auth/me", headers=user.headers).status_code == 200
    with engine.connect() as connection:
        audited = connection.execute(
            text("SELECT action, details FROM audit_events WHERE target = :u"), {"u": str(user.id)}
        ).all()
    assert [tuple(row) for row in audited] == [("user.change_email", {})]  # without the addresses


def test_wrong_password_changes_nothing(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    problem = assert_problem(change(client, user, "x@example.org", "wrong horse"), 400, "invalid_input")
    assert problem["errors"] == {"password": ["This is not your password."]}
    assert row_of(engine, user)[0] == user.email


@pytest.mark.parametrize(
    "spelling", [str, str.upper, lambda email: f"\u200b{email}", lambda email: email.replace("@", "＠")]
)
def test_address_of_another_account_is_409_in_any_spelling(
    client: FlaskClient, engine: Engine, user: LoggedInUser, other_user: LoggedInUser, spelling: Callable[[str], str]
) -> None:
    with engine.begin() as connection:  # the factory leaves it empty
        connection.execute(text("UPDATE users SET email_key = email WHERE id = :u"), {"u": other_user.id})
    response = change(client, user, spelling(other_user.email))
    assert response.status_code in (400, 409)
    if response.status_code == 409:
        assert_problem(response, 409, "email_taken")
    assert row_of(engine, user)[0] == user.email


def test_own_address_in_another_spelling_is_stored(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    assert change(client, user, user.email.upper()).status_code == 200
    assert row_of(engine, user) == (user.email.upper(), user.email)


@pytest.mark.parametrize("email", ["", "x", "a@b", "a@b@c.org", f"{'a' * 250}@example.org", " ", None, 5])
def test_invalid_address_is_400(client: FlaskClient, engine: Engine, user: LoggedInUser, email: Any) -> None:
    problem = assert_problem(change(client, user, email), 400, "invalid_input")
    assert list(problem["errors"]) == ["email"]
    assert row_of(engine, user)[0] == user.email


def test_parallel_changes_to_one_address_give_it_to_one_user(
    flask_app: Flask, make_user: Callable[..., LoggedInUser]
) -> None:
    users, email = [make_user() for _ in range(4)], f"{uuid4().hex}@example.org"
    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(lambda user: change(flask_app.test_client(), user, email).status_code, users))
    assert sorted(statuses) == [200, 409, 409, 409]


def test_reset_token_of_the_old_address_ends(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    with flask_app.app_context(), engine.begin() as connection:
        token = password_resets.issue(connection, user.id, minutes=30).token
    assert change(client, user, f"{uuid4().hex}@example.org").status_code == 200
    body = {"token": token, "new_password": "another horse 1"}
    assert_problem(client.post("/api/auth/password/reset", json=body), 400, "invalid_input")


def test_changes_count_as_registrations_and_wrong_passwords_as_logins(
    make_client: Callable[..., FlaskClient], user: LoggedInUser
) -> None:
    client = make_client(register_per_hour=2)
    for number in range(2):
        assert change(client, user, f"{uuid4().hex}{number}@example.org").status_code == 200
    assert_problem(change(client, user, "x@example.org"), 429, "too_many_attempts")
    client = make_client(login_failures=2)
    for _ in range(2):
        assert change(client, user, "x@example.org", "wrong horse").status_code == 400
    assert_problem(change(client, user, "x@example.org"), 429, "too_many_attempts")
