"""Tickets: `POST /api/turns/{id}/ticket`, and the event stream that an `EventSource` reads with one."""

from collections.abc import Callable

import jwt
import pytest
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.api.keys import change_key, make_key
from tests.event_source import TurnReader, parse
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.live_server import SECRET

Chat = Callable[..., TestResponse]


@pytest.fixture
def turn(chat: Chat) -> str:
    """Return the id of a turn that has just ended."""
    return str(chat("hello").get_json()["turn"]["id"])


@pytest.fixture
def issue(chat_app: Flask, user: LoggedInUser) -> Callable[..., TestResponse]:
    """Return a function that requests a ticket for a turn."""

    def issue(turn: str, headers: dict[str, str] | None = None) -> TestResponse:
        return chat_app.test_client().post(f"/api/turns/{turn}/ticket", headers=headers or user.headers)

    return issue


@pytest.fixture
def read(chat_app: Flask) -> Callable[..., TestResponse]:
    """Return a function that requests the events of a turn with a ticket and without credentials in headers."""

    def read(turn: str, ticket: str, headers: dict[str, str] | None = None) -> TestResponse:
        path = f"/api/turns/{turn}/events?ticket={ticket}"
        return chat_app.test_client().get(path, headers=headers)

    return read


Issue = Callable[..., TestResponse]
Read = Callable[..., TestResponse]


def ticket_of(response: TestResponse) -> str:
    assert response.status_code == 200, response.get_data()
    return str(response.get_json()["ticket"])


@pytest.mark.parametrize("by_key", [False, True])
def test_ticket_reads_events_at_each_reconnect(
    chat_app: Flask, upstream: Upstream, chat: Chat, user: LoggedInUser, issue: Issue, read: Read, by_key: bool
) -> None:
    upstream.script = scripts.words(20, pause=0.05)
    headers = make_key(chat_app, user, ["chat"]).headers if by_key else user.headers
    stream = chat("hello", stream=True)
    reader = TurnReader().read(parse(stream.response), 3)
    ticket = ticket_of(issue(reader.turn["id"], headers))
    stream.response.close()
    for count in (4, 4, None):
        resumed = read(reader.turn["id"], ticket, {"Last-Event-ID": str(reader.last_id)})
        assert resumed.status_code == 200
        reader.read(parse(resumed.response), count)
        resumed.close()
    assert reader.text == "".join(f"word{number} " for number in range(20))
    assert read(reader.turn["id"], ticket, {"Last-Event-ID": str(reader.last_id)}).status_code == 204


def test_ticket_has_only_characters_of_urls(turn: str, issue: Issue) -> None:
    assert ticket_of(issue(turn)).replace("-", "").replace("_", "").replace(".", "").isalnum()


def test_ticket_gives_no_other_access(chat_app: Flask, chat: Chat, turn: str, issue: Issue, read: Read) -> None:
    ticket = ticket_of(issue(turn))
    other_turn = str(chat("hello").get_json()["turn"]["id"])
    assert read(other_turn, ticket).status_code == 401
    client, headers = chat_app.test_client(), {"Authorization": f"Bearer {ticket}"}
    for path in (f"/api/turns/{turn}", "/api/conversations", "/api/auth/me"):
        assert client.get(path, headers=headers).status_code == 401
        assert client.get(f"{path}?ticket={ticket}").status_code == 401
    assert client.post(f"/api/turns/{turn}/cancel?ticket={ticket}").status_code == 401
    assert client.post(f"/api/turns/{turn}/ticket?ticket={ticket}").status_code == 401
    assert client.post("/api/auth/refresh", headers=headers).status_code == 401


def test_access_token_is_no_ticket(turn: str, user: LoggedInUser, read: Read) -> None:
    """An access token must not be sent in a URL."""
    assert read(turn, user.access_token).status_code == 401


@pytest.mark.parametrize("ticket", ["", "x", "a.b.c", "\0", "null"])
def test_invalid_ticket_returns_401(turn: str, read: Read, ticket: str) -> None:
    response = read(turn, ticket)
    assert (response.status_code, response.get_json()["code"]) == (401, "not_authenticated")


def test_forged_ticket_returns_401(turn: str, issue: Issue, read: Read) -> None:
    ticket = ticket_of(issue(turn))
    claims = jwt.decode(ticket, options={"verify_signature": False})
    for forged in (jwt.encode(claims, "another-secret-0123456789abcdefghij"), jwt.encode(claims, "", algorithm="none")):
        assert read(turn, forged).status_code == 401
    assert read(turn, ticket).status_code == 200


def test_invalid_ticket_is_refused_despite_valid_header(turn: str, user: LoggedInUser, read: Read) -> None:
    assert read(turn, "x", user.headers).status_code == 401


def test_ticket_of_other_users_turn_returns_404(turn: str, other_user: LoggedInUser, issue: Issue) -> None:
    assert issue(turn, other_user.headers).status_code == 404


def test_key_without_scope_chat_gets_no_ticket(chat_app: Flask, turn: str, user: LoggedInUser, issue: Issue) -> None:
    assert issue(turn, make_key(chat_app, user, ["read", "write"]).headers).status_code == 403


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sessions SET revoked_at = now() WHERE user_id = :u",
        "UPDATE sessions SET expires_at = now() WHERE user_id = :u",
        "UPDATE users SET status = 'disabled' WHERE id = :u",
        "DELETE FROM users WHERE id = :u",
    ],
)
def test_ticket_ends_with_session(
    turn: str, user: LoggedInUser, engine: Engine, issue: Issue, read: Read, change: str
) -> None:
    ticket = ticket_of(issue(turn))
    with engine.begin() as connection:
        connection.execute(text(change), {"u": user.id})
    assert read(turn, ticket).status_code == 401


def test_logout_ends_ticket(chat_app: Flask, turn: str, user: LoggedInUser, issue: Issue, read: Read) -> None:
    ticket = ticket_of(issue(turn))
    assert chat_app.test_client().post("/api/auth/logout", headers=user.headers).status_code == 204
    response = read(turn, ticket)
    assert (response.status_code, response.get_json()["code"]) == (401, "not_authenticated")


@pytest.mark.parametrize("change", ["revoked_at = now()", "expires_at = now()", "scopes = '{read}'"])
def test_ticket_ends_with_key(
    chat_app: Flask, turn: str, user: LoggedInUser, engine: Engine, issue: Issue, read: Read, change: str
) -> None:
    key = make_key(chat_app, user, ["chat"])
    ticket = ticket_of(issue(turn, key.headers))
    assert read(turn, ticket).status_code == 200
    change_key(engine, key, change)
    assert read(turn, ticket).status_code == 401


@pytest.mark.parametrize(("minutes", "status"), [(4, 200), (6, 401)])
def test_ticket_ends_minutes_after_turn(
    turn: str, engine: Engine, issue: Issue, read: Read, minutes: int, status: int
) -> None:
    ticket = ticket_of(issue(turn))
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE turns SET finished_at = now() - make_interval(mins => :m) WHERE id = :t"),
            {"m": minutes, "t": turn},
        )
    assert read(turn, ticket).status_code == status
    later = issue(turn)
    assert (later.status_code, later.get_json().get("code")) == ((200, None) if status == 200 else (409, "turn_ended"))


def test_ticket_survives_rotation_of_signing_key(make_chat_app: Callable[..., Flask], turn: str, issue: Issue) -> None:
    ticket = ticket_of(issue(turn))
    rotated = make_chat_app(auth={"jwt_secret_key": SecretStr("n" * 40), "jwt_previous_keys": (SecretStr(SECRET),)})
    response = rotated.test_client().get(f"/api/turns/{turn}/events?ticket={ticket}")
    assert response.status_code == 200
