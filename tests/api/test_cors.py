"""Pages of other origins: those that are named may call and see what they need, the others hear nothing of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.api import cors
from app.config import Settings
from app.extensions import db
from app.factory import create_app
from tests.api.keys import problem
from tests.factories import Account

MINE = "https://chat.example.org"
LOCAL = "http://localhost:5173"
FOREIGN = (
    "https://evil.example.org",
    "https://chat.example.org.evil.net",
    "https://evil-chat.example.org",
    "http://chat.example.org",
    "https://chat.example.org:8443",
    "https://chat.example.org/",
    "https://CHAT.example.org",
    "https://chatxexample.org",
    f"{MINE},{LOCAL}",
    f"{MINE} {LOCAL}",
    "null",
    "*",
    "",
)


@pytest.fixture(scope="module")
def client_for(settings: Settings, flask_app: Flask) -> Iterator[Callable[..., FlaskClient]]:
    """A function that gives a client of an application with these origins."""
    made: dict[tuple[str, ...], Flask] = {}

    def client(*origins: str) -> FlaskClient:
        if origins not in made:
            server = settings.server.model_copy(update={"cors_origins": origins})
            made[origins] = create_app(replace(settings, server=server))
        return made[origins].test_client()

    yield client
    for application in made.values():
        with application.app_context():
            db.engine.dispose()


@pytest.fixture
def listed(client_for: Callable[..., FlaskClient]) -> FlaskClient:
    return client_for(MINE, LOCAL)


def preflight(client: FlaskClient, origin: str, path: str = "/api/chat", method: str = "POST") -> TestResponse:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    return client.options(path, headers=headers)


def spoken(response: TestResponse) -> dict[str, str]:
    """The headers of CORS in the answer."""
    return {name: value for name, value in response.headers if name.startswith("Access-Control-")}


@pytest.mark.parametrize("origin", [MINE, LOCAL])
@pytest.mark.parametrize("path", ["/api/chat", "/api/conversations", "/api/auth/login", "/nowhere"])
def test_a_preflight_of_a_named_origin_is_answered(listed: FlaskClient, origin: str, path: str) -> None:
    answer = preflight(listed, origin, path)
    assert (answer.status_code, answer.data) == (204, b"")
    assert spoken(answer)["Access-Control-Allow-Origin"] == origin
    assert set(answer.headers["Access-Control-Allow-Methods"].split(", ")) == set(cors.METHODS)
    assert {"Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-ID"} == set(
        answer.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert answer.headers["Access-Control-Max-Age"] == "600"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Origin" in answer.headers["Vary"]
    assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_preflight_of_a_foreign_origin_is_refused_in_words(
    listed: FlaskClient, origin: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        answer = preflight(listed, origin)
    assert f"CORS_ORIGINS does not name its origin {origin}" in caplog.text
    assert "CORS_ORIGINS" in problem(answer, 403, "not_allowed")["detail"]
    assert spoken(answer) == {}
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", [MINE, LOCAL])
def test_a_page_of_a_named_origin_sees_the_answer_and_what_it_needs_of_it(
    listed: FlaskClient, user: Account, origin: str
) -> None:
    made = listed.post("/api/projects", json={"name": "x"}, headers={**user.headers, "Origin": origin})
    assert made.status_code == 201
    assert spoken(made)["Access-Control-Allow-Origin"] == origin
    exposed = set(made.headers["Access-Control-Expose-Headers"].split(", "))
    assert {"Location", "Retry-After", "X-Request-ID", "X-RateLimit-Remaining"} <= exposed
    assert "Access-Control-Allow-Credentials" not in made.headers
    for refused in (
        listed.get("/api/projects", headers={"Origin": origin}),
        listed.get("/nowhere", headers={"Origin": origin}),
        listed.put("/api/projects", headers={"Origin": origin}),
        listed.post("/api/projects", json={"what": 1}, headers={**user.headers, "Origin": origin}),
    ):
        assert refused.status_code in (400, 401, 404, 405)  # the page is to see what was wrong
        assert spoken(refused)["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_origin_gets_an_ordinary_answer_that_its_page_cannot_read(
    listed: FlaskClient, user: Account, origin: str
) -> None:
    answer = listed.get("/api/projects", headers={**user.headers, "Origin": origin})
    assert answer.status_code == 200
    assert spoken(answer) == {}
    assert "Origin" in answer.headers["Vary"]


def test_caches_are_told_even_where_nobody_asked(listed: FlaskClient, user: Account) -> None:
    assert "Origin" in listed.get("/api/projects", headers=user.headers).headers["Vary"]


def test_by_default_nobody_may(client: FlaskClient, user: Account) -> None:
    for origin in (MINE, *FOREIGN):
        assert spoken(preflight(client, origin)) == {}
        answer = client.get("/api/projects", headers={**user.headers, "Origin": origin})
        assert (answer.status_code, spoken(answer)) == (200, {})
        assert "Vary" not in answer.headers


def test_everybody_may_where_the_setting_says_so(client_for: Callable[..., FlaskClient], user: Account) -> None:
    client = client_for("*")
    for origin in (MINE, "null", "https://anybody.example"):
        assert spoken(preflight(client, origin))["Access-Control-Allow-Origin"] == "*"
        answer = client.get("/api/projects", headers={**user.headers, "Origin": origin})
        assert spoken(answer)["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Vary" not in answer.headers
    assert spoken(client.get("/api/projects", headers=user.headers)) == {}


@pytest.mark.parametrize("origin", [MINE, FOREIGN[0]])
def test_options_that_is_no_preflight_is_flasks(listed: FlaskClient, origin: str) -> None:
    answer = listed.options("/api/projects", headers={"Origin": origin})
    assert answer.status_code == 200
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))
    assert listed.options("/api/projects", headers={"Access-Control-Request-Method": "GET"}).status_code == 200


def test_a_stream_can_be_read_from_a_named_origin(make_chat_app: Callable[..., Flask], user: Account) -> None:
    client = make_chat_app(server={"cors_origins": (MINE,)}).test_client()
    headers = {**user.headers, "Origin": MINE, "Accept": "text/event-stream", "Accept-Encoding": "gzip"}
    stream = client.post("/api/chat", json={"message": "hello"}, headers=headers)
    assert stream.mimetype == "text/event-stream"
    assert spoken(stream)["Access-Control-Allow-Origin"] == MINE
    assert "Content-Encoding" not in stream.headers
    assert b"turn.completed" in stream.data


def test_every_method_that_there_is_may_be_asked_for(flask_app: Flask) -> None:
    methods: set[Any] = set().union(*(rule.methods or () for rule in flask_app.url_map.iter_rules()))
    assert methods - {"OPTIONS"} <= set(cors.METHODS)
