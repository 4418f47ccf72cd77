"""Metrics of requests: counted once, by route template, without paths or ids in the labels.

Werkzeug's client closes a response, as every server does, only with `buffered` or `close`.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.config import Settings
from app.factory import create_app
from app.metrics.registry import OTHER
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.metrics.scrape import Since, here
from tests.waiting import wait_until

COUNT = "http_request_duration_seconds_count"


@pytest.fixture(scope="module")
def broken_app(settings: Settings, flask_app: Flask) -> Flask:
    """Return an application with routes that raise."""
    blueprint = Blueprint("broken", __name__, access=Access.PUBLIC)

    @blueprint.route("/broken")
    def broken() -> Response:
        raise RuntimeError("on purpose")

    @blueprint.route("/broken/stream")
    def stream() -> Response:
        def body() -> Iterator[bytes]:
            yield b"one"
            raise RuntimeError("on purpose")

        return Response(body())

    return create_app(settings, blueprints=[blueprint])


def test_request_is_labelled_by_route_template(client: FlaskClient, user: LoggedInUser, since: Since) -> None:
    turn_id = uuid4()
    client.get(f"/api/turns/{turn_id}", headers=user.headers, buffered=True)
    labels = {"method": "GET", "route": "/api/turns/<uuid:turn_id>", "status_class": "4xx"}
    assert since.counted(COUNT, **labels) == 1
    assert since.counted("http_request_duration_seconds_sum", **labels) > 0
    assert str(turn_id) not in here().text


def test_unknown_paths_are_labelled_other(client: FlaskClient, since: Since) -> None:
    paths = [f"/nowhere/{uuid4()}", "/api/nothing?token=whispered", "/%2e%2e/etc", "/api/turns/no-uuid", "/x" * 500]
    for path in paths:
        assert client.get(path, buffered=True).status_code == 404
    assert since.counted(COUNT, method="GET", route=OTHER, status_class="4xx") == len(paths)
    for word in ("nowhere", "nothing", "whispered", "etc", "no-uuid", "/x/x"):
        assert word not in here().text


def test_unknown_methods_are_labelled_other(client: FlaskClient, since: Since) -> None:
    for method in ("BREW", "PROPFIND", 'X"} 1'):
        client.open("/api/conversations", method=method, buffered=True)
    assert since.counted(COUNT, method=OTHER) == 3
    assert "BREW" not in here().text


def test_all_route_labels_are_templates(flask_app: Flask, client: FlaskClient, user: LoggedInUser) -> None:
    """Call every route that takes ids or no argument."""
    rules = set()
    for rule in flask_app.url_map.iter_rules():
        with suppress(ValueError):  # the route takes one of a few words, not an id
            path = rule.build({name: 1 if name == "number" else uuid4() for name in rule.arguments})
            assert path is not None
            client.open(path[1], method="OPTIONS", headers=user.headers, buffered=True)
            rules.add(rule.rule)
    assert len(rules) > 20
    seen = here().labels(COUNT, "route")
    assert rules <= seen
    assert not [route for route in seen if any(part.count("-") == 4 for part in route.split("/"))]


def test_stream_is_in_flight_until_its_body_ends(
    chat: Callable[..., TestResponse], upstream: Upstream, since: Since
) -> None:
    upstream.script = scripts.words(3)
    response = chat(stream=True)
    reader = iter(response.response)
    next(reader)
    assert since.counted("http_requests_in_flight") == 1
    assert since.counted(COUNT, route="/api/chat") == 0
    for _ in reader:
        pass
    response.close()
    assert since.counted("http_requests_in_flight") == 0
    assert since.counted(COUNT, route="/api/chat", status_class="2xx") == 1


def test_client_disconnect_is_counted_once(chat: Callable[..., TestResponse], upstream: Upstream, since: Since) -> None:
    upstream.script = scripts.words(10, pause=0.02)
    response = chat(stream=True)
    next(piece for piece in response.response if b"message.delta" in piece)
    response.close()
    response.close()
    assert since.counted("http_requests_in_flight") == 0
    assert since.counted(COUNT, route="/api/chat", status_class="2xx") == since.counted(COUNT) == 1
    # The turn continues and completes.
    wait_until(lambda: since.counted("turns_total", status="completed") == 1)
    assert since.counted("turns_running") == 0


def test_unhandled_error_is_counted_and_not_in_flight(broken_app: Flask, since: Since) -> None:
    assert broken_app.test_client().get("/broken", buffered=True).status_code == 500
    assert since.counted(COUNT, route="/broken", status_class="5xx") == 1
    assert since.counted("http_requests_in_flight") == 0


def test_error_outside_handlers_is_counted_and_not_in_flight(
    broken_app: Flask, since: Since, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the error handlers reaches the server, which answers 500."""

    def escape(*_: Any) -> Response:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(broken_app, "handle_user_exception", escape)
    monkeypatch.setattr(broken_app, "handle_exception", escape)
    with pytest.raises(RuntimeError, match="on purpose"):
        broken_app.test_client().get("/broken")
    assert since.counted(COUNT, status_class="5xx") == 1
    assert since.counted("http_requests_in_flight") == 0


def test_failing_stream_is_counted_and_not_in_flight(broken_app: Flask, since: Since) -> None:
    response = broken_app.test_client().get("/broken/stream")
    with pytest.raises(RuntimeError, match="on purpose"):
        list(response.response)
    response.close()
    assert since.counted(COUNT, route="/broken/stream", status_class="2xx") == 1
    assert since.counted("http_requests_in_flight") == 0
