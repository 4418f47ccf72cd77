"""An application whose provider is a scripted server on loopback, and a way to talk to it."""

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
from tests.factories import Account
from tests.fakes.scripts import words
from tests.fakes.upstream import Upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(autouse=True)
def _plain_script(request: pytest.FixtureRequest) -> None:
    """Each test starts with a provider that simply answers."""
    if "upstream" in request.fixturenames:
        request.getfixturevalue("upstream").script = words()


@pytest.fixture(scope="module")
def make_chat_app(settings: Settings, upstream: Upstream, flask_app: Flask) -> Iterator[Callable[..., Flask]]:
    """A function that makes an application answered by `upstream`; keyword arguments are groups and their changes."""
    made: list[Flask] = []

    def make(**changes: dict[str, Any]) -> Flask:
        provider = {
            "name": "compatible",
            "openai_base_url": upstream.base_url,
            "connect_timeout": 2,
            "first_token_timeout": 10,
            "idle_timeout": 10,
            "total_timeout": 30,
            "retries": 0,  # one request is one call, which many tests count; test_chat_providers.py is about the others
            "breaker_failures": 1_000_000,  # the tests of a module share an application, not each other's failures
        }
        groups = {"provider": provider, **changes}
        changed = {name: getattr(settings, name).model_copy(update=values) for name, values in groups.items()}
        chat_app = create_app(replace(settings, **changed))
        made.append(chat_app)
        return chat_app

    yield make
    for chat_app in made:
        with chat_app.app_context():
            db.engine.dispose()


@pytest.fixture(scope="module")
def chat_app(make_chat_app: Callable[..., Flask]) -> Flask:
    return make_chat_app()


@pytest.fixture
def chat(chat_app: Flask, user: Account) -> Callable[..., TestResponse]:
    """Post a message as `user`; keyword arguments are fields of the body, `headers` and `account` excepted."""

    def post(message: str = "hello", *, account: Account = user, headers: Any = (), **body: Any) -> TestResponse:
        return chat_app.test_client().post(
            "/api/chat", json={"message": message, **body}, headers={**account.headers, **dict(headers)}
        )

    return post


@pytest.fixture
def rows(engine: Engine) -> Callable[..., list[Any]]:
    """Run a query with `:u` style parameters and return its rows."""

    def run(query: str, **parameters: Any) -> list[Any]:
        with engine.connect() as connection:
            return list(connection.execute(text(query), parameters))

    return run


@pytest.fixture
def chat_client(chat_app: Flask) -> FlaskClient:
    return chat_app.test_client()


def events_of(response: TestResponse) -> list[tuple[int, str, Any]]:
    """The (id, event, data) of a stream read to its end; comments are passed over."""
    events = []
    for block in response.get_data().split(b"\n\n"):
        lines = dict(line.split(b": ", 1) for line in block.split(b"\n") if line and not line.startswith(b":"))
        if lines:
            events.append((int(lines[b"id"]), lines[b"event"].decode(), orjson.loads(lines[b"data"])))
    return events
