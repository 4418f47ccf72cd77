"""A user's own sessions over HTTP: list them, end one, end all others."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.ids import new_id
from app.services import sessions
from app.services.sessions import Client
from tests.api.keys import make_key
from tests.api.responses import assert_problem, bearer
from tests.factories import PASSWORD_HASH, LoggedInUser

PATH = "/api/auth/sessions"


@pytest.fixture
def log_in(flask_app: Flask, engine: Engine) -> Callable[..., str]:
    """Return a function that opens a session and returns its access token."""

    def log_in(user: LoggedInUser, agent: str | None = "Firefox", address: str | None = "192.0.2.7") -> str:
        with flask_app.app_context(), engine.begin() as connection:
            return sessions.open_session(connection, user.id, PASSWORD_HASH, Client(address, agent)).access_token

    return log_in


def listed(client: FlaskClient, token: str, **query: Any) -> list[dict[str, Any]]:
    response = client.get(PATH, headers=bearer(token), query_string=query)
    assert response.status_code == 200, response.text
    return list((response.json or {})["items"])


def is_live(client: FlaskClient, token: str) -> bool:
    return client.get("/api/auth/me", headers=bearer(token)).status_code == 200


def actions(engine: Engine, user: LoggedInUser) -> list[tuple[str, dict[str, Any]]]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT action, details FROM audit_events WHERE target = :u AND actor_id = :i ORDER BY id"),
            {"u": str(user.id), "i": user.id},
        )
        return [(row.action, row.details) for row in rows]


def test_list_has_live_sessions_newest_first(
    client: FlaskClient, engine: Engine, user: LoggedInUser, log_in: Callable[..., str]
) -> None:
    newest = log_in(user)
    items = listed(client, newest)
    assert [item["is_current"] for item in items] == [True, False]
    assert items[1]["id"] == str(user.session_id)
    assert (items[0]["user_agent"], items[0]["address"]) == ("Firefox", "192.0.2.7")
    assert items[0]["refreshed_at"] >= items[0]["created_at"]
    assert set(items[0]) == {"id", "created_at", "refreshed_at", "expires_at", "user_agent", "address", "is_current"}
    with engine.begin() as connection:
        connection.execute(text("UPDATE sessions SET expires_at = now() WHERE id = :s"), {"s": user.session_id})
    assert [item["is_current"] for item in listed(client, newest)] == [True]


def test_list_pages_contain_each_session_once(
    client: FlaskClient, user: LoggedInUser, log_in: Callable[..., str]
) -> None:
    for _ in range(4):
        log_in(user)
    seen, cursor = list[str](), None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = client.get(PATH, headers=user.headers, query_string=query).json or {}
        seen += [item["id"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert len(seen) == len(set(seen)) == 5


def test_end_one_session_ends_only_that_one(
    client: FlaskClient, engine: Engine, user: LoggedInUser, log_in: Callable[..., str]
) -> None:
    token = log_in(user)
    path = f"{PATH}/{user.session_id}"
    for _ in range(2):  # repeating it is no error
        assert client.delete(path, headers=bearer(token)).status_code == 204
    assert (is_live(client, token), is_live(client, user.access_token)) == (True, False)
    assert actions(engine, user) == [("user.end_session", {"session": str(user.session_id)})]


def test_current_session_can_be_ended(client: FlaskClient, user: LoggedInUser) -> None:
    assert client.delete(f"{PATH}/{user.session_id}", headers=user.headers).status_code == 204
    assert not is_live(client, user.access_token)


def test_end_others_keeps_the_current_one(
    client: FlaskClient, engine: Engine, user: LoggedInUser, log_in: Callable[..., str]
) -> None:
    tokens = [log_in(user) for _ in range(3)]
    for _ in range(2):
        assert client.delete(PATH, headers=bearer(tokens[1])).status_code == 204
    assert [is_live(client, token) for token in (*tokens, user.access_token)] == [False, True, False, False]
    assert actions(engine, user) == [("user.end_other_sessions", {"sessions": 3})]


def test_sessions_of_other_users_are_neither_shown_nor_ended(
    client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    assert [item["id"] for item in listed(client, user.access_token)] == [str(user.session_id)]
    foreign = client.delete(f"{PATH}/{other_user.session_id}", headers=user.headers)
    unknown = client.delete(f"{PATH}/{new_id()}", headers=user.headers)
    for response in (foreign, unknown):
        assert assert_problem(response, 404, "not_found")["detail"] == "There is no such session."
    assert client.delete(PATH, headers=user.headers).status_code == 204
    assert is_live(client, other_user.access_token)


def test_api_key_is_refused(client: FlaskClient, flask_app: Flask, user: LoggedInUser) -> None:
    key = make_key(flask_app, user)
    for method, path in (("GET", PATH), ("DELETE", PATH), ("DELETE", f"{PATH}/{user.session_id}")):
        assert client.open(path, method=method, headers=bearer(key.secret)).status_code == 403
    assert is_live(client, user.access_token)


def test_ended_session_cannot_refresh(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    with flask_app.app_context(), engine.begin() as connection:
        tokens = sessions.open_session(connection, user.id, PASSWORD_HASH, Client())
    assert client.delete(PATH, headers=user.headers).status_code == 204
    assert client.post("/api/auth/refresh", headers=bearer(tokens.refresh_token)).status_code == 401


@pytest.mark.parametrize("session_id", ["x", UUID(int=0), "00000000-0000-0000-0000-00000000000"])
def test_malformed_id_is_404(client: FlaskClient, user: LoggedInUser, session_id: Any) -> None:
    assert client.delete(f"{PATH}/{session_id}", headers=user.headers).status_code == 404
