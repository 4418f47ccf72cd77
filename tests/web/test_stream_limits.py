"""The streams of one user and of one worker are bounded, and room is left for health checks and other users."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPResponse
from threading import Thread
from typing import Any

import orjson
import pytest
from flask import Flask
from sqlalchemy import Engine

from tests.factories import LoggedInUser, make_conversation
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = pytest.mark.process

PER_USER, PER_WORKER = 4, 6

Ask = Callable[..., HTTPResponse]


@pytest.fixture(scope="module")
def server(flask_app: Flask, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with Upstream(scripts.hang(after=1)) as upstream:
        settings = {
            "AI_PROVIDER": "compatible",
            "OPENAI_BASE_URL": upstream.base_url,
            "AI_IDLE_TIMEOUT": "1000",
            "AI_TOTAL_TIMEOUT": "1000",
            "WEB_WORKERS": "1",
            "STREAMS_PER_USER": str(PER_USER),
            "STREAMS_PER_WORKER": str(PER_WORKER),
        }
        with WebServer(tmp_path_factory.mktemp("web"), DATABASE_URL=database_url, **settings) as server:
            yield server


@pytest.fixture
def ask(server: WebServer) -> Iterator[Ask]:
    """Return a function that sends a request on a connection of its own and returns the response, not read yet."""
    with ExitStack() as connections:

        def ask(method: str, path: str, user: LoggedInUser, body: Any = None, **headers: str) -> HTTPResponse:
            connection = connections.enter_context(closing(HTTPConnection("127.0.0.1", server.port, timeout=60)))
            data = None if body is None else orjson.dumps(body)
            # With `Connection: close`, closing the response closes the connection.
            sent = {**user.headers, "Content-Type": "application/json", "Connection": "close", **headers}
            connection.request(method, path, data, sent)
            return connection.getresponse()

        yield ask


@pytest.fixture
def turn(server: WebServer, ask: Ask, user: LoggedInUser) -> Iterator[str]:
    """Yield the id of a turn that runs until the test ends, without a reader."""
    response = ask("POST", "/api/chat", user, {"message": "hello", "stream": True})
    turn_id = _turn_id(response)
    response.close()
    yield turn_id
    ask("POST", f"/api/turns/{turn_id}/cancel", user)


def _turn_id(response: HTTPResponse) -> str:
    for line in iter(response.readline, b""):
        if line.startswith(b"data: "):
            return str(orjson.loads(line.removeprefix(b"data: "))["turn"]["id"])
    raise AssertionError("the stream has no event")


def problem(response: HTTPResponse) -> tuple[int, str]:
    assert int(response.headers["Retry-After"]) > 0
    return response.status, orjson.loads(response.read())["code"]


def is_served(ask: Ask, path: str, user: LoggedInUser) -> bool:
    response = ask("GET", path, user)
    response.close()
    return response.status == 200


def test_readers_of_one_user_are_bounded_and_others_are_served(
    ask: Ask, turn: str, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    events = f"/api/turns/{turn}/events"
    responses = [ask("GET", events, user)]
    while responses[-1].status == 200:
        responses.append(ask("GET", events, user))
    readers, refused = responses[:-1], responses[-1]
    assert PER_USER - 1 <= len(readers) <= PER_USER  # the first reader may not be missed yet
    assert problem(refused) == (429, "too_many_streams")
    while len(readers) < PER_USER:  # until the server notices that the first reader left
        if (response := ask("GET", events, user)).status == 200:
            readers.append(response)
    # All other ways to a stream count too, and nothing is begun or stored.
    for method, path, body in (
        ("POST", "/api/chat", {"message": "again", "stream": True}),
        ("POST", "/api/chat", {"message": "again", "stream": False}),
        ("GET", "/api/auth/me/export", None),
    ):
        assert problem(ask(method, path, user, body)) == (429, "too_many_streams")
    conversations = orjson.loads(ask("GET", "/api/conversations", user).read())["items"]
    assert len(conversations) == 1
    # Others have the rest of the worker's streams, and then health checks and short requests are still served.
    others = [ask("POST", "/api/chat", other_user, {"message": "hello", "stream": True}) for _ in range(3)]
    assert [response.status for response in others] == [200, 200, 503]
    assert problem(others[2]) == (503, "overloaded")
    for path in ("/health/live", "/health", "/api/conversations"):
        assert is_served(ask, path, other_user)
    for response in (*readers, *others):
        response.close()
    wait_until(lambda: is_served(ask, events, user), "the streams of clients that left were not released")


def open_streams(ask: Ask, user: LoggedInUser) -> float:
    """Return how many streams the server counts now."""
    metrics = ask("GET", "/metrics", user).read().decode()
    [line] = [line for line in metrics.splitlines() if line.startswith("parley_streams_open ")]
    return float(line.split()[1])


def test_waiting_for_json_counts_as_stream(ask: Ask, user: LoggedInUser) -> None:
    body, key = {"message": "hello", "stream": False}, {"Idempotency-Key": "one turn"}
    statuses: list[int] = []
    waiting = [
        Thread(target=lambda: statuses.append(ask("POST", "/api/chat", user, body, **key).status))
        for _ in range(PER_USER + 2)
    ]
    for thread in waiting:
        thread.start()
    wait_until(lambda: len(statuses) == 2)
    assert statuses == [429, 429]
    assert open_streams(ask, user) == PER_USER
    [conversation] = orjson.loads(ask("GET", "/api/conversations", user).read())["items"]
    messages = orjson.loads(ask("GET", f"/api/conversations/{conversation['id']}/messages", user).read())["items"]
    ask("POST", f"/api/turns/{messages[0]['turn_id']}/cancel", user)
    for thread in waiting:
        thread.join(60)
    assert sorted(statuses) == [200] * PER_USER + [429] * 2
    assert open_streams(ask, user) == 0
    assert is_served(ask, "/api/auth/me/export", user)


def test_slots_are_released_after_each_kind_of_end(ask: Ask, engine: Engine, user: LoggedInUser) -> None:
    """Exports, responses without a body, and errors: more than there are slots."""
    conversation, unknown = make_conversation(engine, user), "00000000-0000-4000-8000-000000000000"
    requests = (
        ("GET", f"/api/conversations/{conversation}/export", None),
        ("HEAD", f"/api/conversations/{conversation}/export", None),
        ("GET", f"/api/conversations/{unknown}/export", None),
        ("GET", f"/api/turns/{unknown}/events", None),
        ("POST", "/api/chat", {"message": "hello", "conversation_id": unknown}),
    )
    for _ in range(PER_USER + 1):
        for method, path, body in requests:
            response = ask(method, path, user, body)
            response.read()
            assert response.status == (200 if str(conversation) in path else 404)


def test_client_that_has_closed_its_side_is_pinged_more_often(server: WebServer, turn: str, user: LoggedInUser) -> None:
    """Only a write shows whether it still reads, so the slot of a client that left is released soon."""
    request = (
        f"GET /api/turns/{turn}/events HTTP/1.0\r\nAuthorization: {user.headers['Authorization']}\r\n\r\n".encode()
    )
    with (
        socket.create_connection(("127.0.0.1", server.port)) as half,
        socket.create_connection(("127.0.0.1", server.port)) as open_,
    ):
        for client in (half, open_):
            client.settimeout(60)
            client.sendall(request)
        half.shutdown(socket.SHUT_WR)
        received = b""
        while received.count(b": ping") < 4:
            received += half.recv(65_536)
        open_.setblocking(False)
        assert open_.recv(65_536).count(b": ping") < 4
