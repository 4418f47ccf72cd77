"""Gzip of JSON responses, except streams and responses with a token or key."""

import gzip
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.api import compression
from app.api.access import Access
from app.api.blueprint import Blueprint
from app.config import Settings
from app.factory import create_app
from tests.api.keys import make_key
from tests.factories import PASSWORD, LoggedInUser

GZIP = {"Accept-Encoding": "gzip, deflate, br"}


@pytest.fixture(scope="module")
def sized(settings: Settings, flask_app: Flask) -> FlaskClient:
    """Return a client of an application with a route that returns a body of a given size and type."""
    blueprint = Blueprint("sized", __name__, access=Access.PUBLIC)

    def answer(size: int, kind: str) -> Response:
        letters = b'"' + b"a" * (size - 2) + b'"'
        if kind == "stream":
            return Response(iter([letters]), mimetype="application/json")
        if kind == "encoded":
            return Response(letters, mimetype="application/json", headers={"Content-Encoding": "br"})
        return Response(letters, 500 if "problem" in kind else 200, mimetype=kind.replace("-", "/", 1))

    blueprint.add_url_rule("/sized/<int:size>/<kind>", "answer", answer)
    return create_app(settings, [blueprint]).test_client()


@pytest.fixture
def big_project(client: FlaskClient, user: LoggedInUser) -> tuple[str, Any]:
    """Create a project whose JSON has about 2 KB, and return its URL and JSON."""
    made = client.post("/api/projects", json={"name": "x", "description": "some words " * 180}, headers=user.headers)
    return made.headers["Location"], made.json


def test_large_response_is_compressed_if_accepted(
    client: FlaskClient, user: LoggedInUser, big_project: tuple[str, Any]
) -> None:
    url, project = big_project
    plain = client.get(url, headers=user.headers)
    packed = client.get(url, headers={**user.headers, **GZIP})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert orjson.loads(plain.data) == project
    assert int(packed.headers["Content-Length"]) == len(packed.data) < len(plain.data) / 3
    for answer in (plain, packed):
        assert "Accept-Encoding" in answer.headers["Vary"]
    assert client.get(url, headers={**user.headers, **GZIP}).data == packed.data
    head = client.head(url, headers={**user.headers, **GZIP})
    assert (head.data, head.headers["Content-Encoding"]) == (b"", "gzip")
    assert head.headers["Content-Length"] == packed.headers["Content-Length"]


@pytest.mark.parametrize(
    ("accepts", "packed"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("*", True),
        ("gzip;q=0.1, identity", True),
        ("br, gzip;q=1.0", True),
        ("identity;q=0, gzip", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("br", False),
        ("identity", False),
        ("", False),
        ("gzip;q=x", False),
    ],
)
def test_accept_encoding_decides_compression(sized: FlaskClient, accepts: str, packed: bool) -> None:
    answer = sized.get("/sized/5000/application-json", headers={"Accept-Encoding": accepts})
    assert (answer.headers.get("Content-Encoding") == "gzip") is packed


@pytest.mark.parametrize(
    ("size", "kind", "packed"),
    [
        (compression.SMALLEST - 1, "application-json", False),
        (compression.SMALLEST, "application-json", True),
        (compression.LARGEST, "application-json", True),
        (compression.LARGEST + 1, "application-json", False),
        (5000, "application-problem+json", True),
        (5000, "text-event-stream", False),
        (5000, "text-html", False),
        (5000, "application-octet-stream", False),
        (5000, "stream", False),
        (5000, "encoded", False),
    ],
)
def test_size_and_type_decide_compression(sized: FlaskClient, size: int, kind: str, packed: bool) -> None:
    answer = sized.get(f"/sized/{size}/{kind}", headers=GZIP)
    assert (answer.headers.get("Content-Encoding") == "gzip") is packed
    assert ("Accept-Encoding" in answer.headers.get("Vary", "")) is packed
    assert len(gzip.decompress(answer.data) if packed else answer.data) == size


def test_chat_response_is_compressed_and_stream_is_not(
    make_chat_app: Callable[..., Flask], upstream: Any, user: LoggedInUser
) -> None:
    client = make_chat_app().test_client()
    words = "some words of a person's " * 100

    def send_message(**body: Any) -> TestResponse:
        return client.post("/api/chat", json={"message": words, **body}, headers={**user.headers, **GZIP})

    streamed = send_message(stream=True)
    assert "Content-Encoding" not in streamed.headers
    assert b"event: turn.completed" in streamed.data
    conversation = orjson.loads(_plain(send_message()))["conversation"]["id"]
    listed = client.get(f"/api/conversations/{conversation}/messages", headers={**user.headers, **GZIP})
    assert listed.headers["Content-Encoding"] == "gzip"
    assert orjson.loads(gzip.decompress(listed.data))["items"][0]["content"] == words


def _plain(answer: TestResponse) -> bytes:
    return gzip.decompress(answer.data) if "Content-Encoding" in answer.headers else answer.data


def test_responses_with_secrets_are_not_compressed(client: FlaskClient, flask_app: Flask, user: LoggedInUser) -> None:
    """Of any size: the list of keys has more than 1 KB."""
    for _ in range(10):
        make_key(flask_app, user)
    answers = [
        client.post("/api/auth/login", json={"email": user.email, "password": PASSWORD}, headers=GZIP),
        client.get("/api/auth/keys", headers={**user.headers, **GZIP}),
        client.post("/api/auth/keys", json={"name": "x" * 100, "scopes": ["read"]}, headers={**user.headers, **GZIP}),
        client.get("/api/auth/me", headers={**user.headers, **GZIP}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 201, 200]
    assert len(answers[0].data) > compression.SMALLEST or len(answers[1].data) > compression.SMALLEST
    for answer in answers:
        assert "Content-Encoding" not in answer.headers
