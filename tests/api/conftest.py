"""Fixtures: applications whose provider is a scripted server on loopback, and requests to them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from tests.api.conversation_files import StoreConversation, insert_messages
from tests.factories import LoggedInUser
from tests.fakes.scripts import words
from tests.fakes.upstream import Upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(autouse=True)
def _plain_script(request: pytest.FixtureRequest) -> None:
    """Reset the provider to a plain answer before each test."""
    if "upstream" in request.fixturenames:
        request.getfixturevalue("upstream").script = words()


@pytest.fixture(scope="module")
def make_chat_app(settings: Settings, upstream: Upstream, flask_app: Flask) -> Iterator[Callable[..., Flask]]:
    """Yield a function that creates an application with `upstream` as provider.

    Its keyword arguments are groups of settings with the values to change.
    """
    created: list[Flask] = []

    def make(**changes: dict[str, Any]) -> Flask:
        provider = {
            "name": "compatible",
            "openai_base_url": upstream.base_url,
            "connect_timeout": 2,
            "first_token_timeout": 10,
            "idle_timeout": 10,
            "total_timeout": 30,
            "retries": 0,  # many tests count calls; test_chat_providers.py tests retries
            "circuit_failures": 1_000_000,  # the tests of a module share an application, and must not open its circuit
        }
        groups = {"provider": provider, **changes}
        changed = {name: getattr(settings, name).model_copy(update=values) for name, values in groups.items()}
        chat_app = create_app(replace(settings, **changed))
        created.append(chat_app)
        return chat_app

    yield make
    for chat_app in created:
        with chat_app.app_context():
            db.engine.dispose()


@pytest.fixture(scope="module")
def chat_app(make_chat_app: Callable[..., Flask]) -> Flask:
    return make_chat_app()


@pytest.fixture
def chat(chat_app: Flask, user: LoggedInUser) -> Callable[..., TestResponse]:
    """Return a function that posts a message; keyword arguments except `headers` and `account` are body fields."""

    def post(message: str = "hello", *, account: LoggedInUser = user, headers: Any = (), **body: Any) -> TestResponse:
        return chat_app.test_client().post(
            "/api/chat", json={"message": message, **body}, headers={**account.headers, **dict(headers)}
        )

    return post


@pytest.fixture
def rows(engine: Engine) -> Callable[..., list[Any]]:
    """Return a function that runs a query with `:u` style parameters and returns its rows."""

    def run(query: str, **parameters: Any) -> list[Any]:
        with engine.connect() as connection:
            return list(connection.execute(text(query), parameters))

    return run


@pytest.fixture
def chat_client(chat_app: Flask) -> FlaskClient:
    return chat_app.test_client()


def events_of(response: TestResponse) -> list[tuple[int, str, Any]]:
    """Read a stream to its end and return its events as (id, event, data)."""
    return parse_events(response.get_data())


def parse_events(body: bytes) -> list[tuple[int, str, Any]]:
    """Parse server-sent events as (id, event, data), without comments."""
    events = []
    for block in body.split(b"\n\n"):
        lines = dict(line.split(b": ", 1) for line in block.split(b"\n") if line and not line.startswith(b":"))
        if lines:
            events.append((int(lines[b"id"]), lines[b"event"].decode(), orjson.loads(lines[b"data"])))
    return events


@pytest.fixture
def store_conversation(engine: Engine, user: LoggedInUser) -> StoreConversation:
    """Return a function that inserts a conversation with messages, of `user` unless `account` is given."""
    return lambda messages, account=user, **columns: insert_messages(engine, account, messages, **columns)
