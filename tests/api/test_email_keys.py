"""Email addresses that look alike: one account, one limit."""

import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.text import address_key
from tests.api.responses import assert_problem
from tests.factories import PASSWORD, LoggedInUser, insert_user

ADDRESS = "ida.fischer@example.org"
LOOK_ALIKES = [
    "IDA.Fischer@Example.org",
    "ida.fis\u200bcher@example.org",  # zero-width space
    "\ufeffida.fischer@example.org\u2060",
    "ida.\ufb01scher@example.org",  # the ligature fi
    "\uff49da.fischer\uff20example.org",  # full width
    "ida.fi\u00adscher@example.org",  # soft hyphen
    "  ida.fischer@example.org\u00a0",
]


def log_in(client: FlaskClient, email: str, password: str = PASSWORD) -> int:
    return client.post("/api/auth/login", json={"email": email, "password": password}).status_code


@pytest.fixture
def spelled() -> Callable[[str], str]:
    """Return a function that gives an address a domain of this test."""
    domain = f"{uuid4().hex}.org"
    return lambda email: re.sub("example.org", domain, email, flags=re.IGNORECASE)


@pytest.fixture
def insert(flask_app: Flask, engine: Engine) -> Callable[..., LoggedInUser]:
    """Return a function that inserts a user with this address and this key."""
    return lambda email, key: insert_user(flask_app, engine, email=email, email_key=key)


@pytest.mark.parametrize(
    "email", ["", "a", *LOOK_ALIKES, "\u0130da@x", "Stra\u00dfe@x", "\u1e9e\u0345@x", "\ufdfa@x", "\u2126\u0345"]
)
def test_address_key_is_its_own_key(email: str) -> None:
    assert address_key(address_key(email)) == address_key(email)


@pytest.mark.parametrize("typed", LOOK_ALIKES)
def test_look_alike_address_logs_in(
    client: FlaskClient, insert: Callable[..., LoggedInUser], spelled: Callable[[str], str], typed: str
) -> None:
    insert(spelled(ADDRESS), spelled(ADDRESS))
    assert log_in(client, spelled(typed)) == 200


@pytest.mark.parametrize("typed", ["ida.\ufb01scher@example.org", "ida.fischer\u3164@example.org"])
def test_look_alike_address_cannot_register(
    client: FlaskClient, insert: Callable[..., LoggedInUser], spelled: Callable[[str], str], typed: str
) -> None:
    insert(spelled(ADDRESS), spelled(ADDRESS))
    body = {"email": spelled(typed), "password": "eleven purple otters", "name": "Ida"}
    assert_problem(client.post("/api/auth/register", json=body), 409, "email_taken")


@pytest.mark.parametrize("email", ["\u3164@example.org", "\ufdfa" * 20 + "@example.org"])
def test_register_address_with_invalid_key_is_400(client: FlaskClient, email: str) -> None:
    body = {"email": email, "password": "eleven purple otters", "name": "Ida"}
    assert_problem(client.post("/api/auth/register", json=body), 400, "invalid_input")


def test_row_without_key_is_found_by_lower_case(
    client: FlaskClient, insert: Callable[..., LoggedInUser], spelled: Callable[[str], str]
) -> None:
    """A release before the keys inserts such rows while both run."""
    insert(spelled("Old.Row@example.org"), None)
    assert log_in(client, spelled("old.row@example.org").upper()) == 200


def test_accounts_with_one_key_log_in_with_their_own_spelling(
    client: FlaskClient, insert: Callable[..., LoggedInUser], spelled: Callable[[str], str]
) -> None:
    alike = spelled("ida.\ufb01scher@example.org")
    for user in (insert(spelled(ADDRESS), spelled(ADDRESS)), insert(alike, alike)):
        answer = client.post("/api/auth/login", json={"email": user.email, "password": PASSWORD})
        assert (answer.json or {})["user"]["id"] == str(user.id)


def test_spelling_with_another_key_does_not_log_in(
    client: FlaskClient, insert: Callable[..., LoggedInUser], spelled: Callable[[str], str]
) -> None:
    """PostgreSQL lowers the dotted I to i, while Python's casefold keeps the dot, so the limits did not count it."""
    for key in (spelled(ADDRESS), None):
        email = spelled(ADDRESS) if key else f"second.{spelled(ADDRESS)}"
        insert(email, key)
        assert [log_in(client, email), log_in(client, email.replace("ida", "\u0130da"))] == [200, 401]
