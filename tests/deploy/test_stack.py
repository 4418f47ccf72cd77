"""The stack through nginx: chats, streams, limits, and web servers that are killed or stopped."""

import ast
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import orjson
import pytest
import urllib3
from sqlalchemy import NullPool, create_engine, text

from tests.deploy.compose import ROOT, SECRETS
from tests.deploy.stack import Stack
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("deploy")]

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="session")
def headers(stack: Stack) -> dict[str, str]:
    """Register a user through nginx and return the headers of a request."""
    user = {"email": f"{uuid4().hex}@example.org", "password": "a long password", "name": "Ada"}
    response = stack.post("/api/auth/register", user, {})
    assert response.status == 201, response.data
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


@pytest.fixture
def count_turns(deployed_url: str) -> Iterator[Any]:
    """Return a function that counts the turns by their message."""
    engine = create_engine(deployed_url, poolclass=NullPool)

    def count() -> dict[str, int]:
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT content, count(*) FROM messages WHERE role = 'user' GROUP BY 1"))
            return {row[0]: row[1] for row in rows}

    yield count
    engine.dispose()


def events(response: urllib3.BaseHTTPResponse) -> Iterator[tuple[str, Any]]:
    """Yield type and data of each event as it arrives."""
    rest = b""
    while data := response.read1(65_536):
        *blocks, rest = (rest + data).split(b"\n\n")
        for block in blocks:
            lines = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
            if lines:
                yield lines[b"event"].decode(), orjson.loads(lines[b"data"])


def test_chat_is_answered_as_json(stack: Stack, upstream: Upstream, headers: dict[str, str]) -> None:
    upstream.script = scripts.words(3)
    response = stack.post("/api/chat", {"message": "hello"}, {**headers, "X-Request-ID": "mine-1"})
    assert (response.status, response.headers["X-Request-ID"]) == (200, "mine-1")
    assert response.json()["message"]["content"] == "word0 word1 word2 "


def test_nginx_sets_request_id_and_forwards_the_scheme(stack: Stack) -> None:
    response = stack.http.request(
        "GET", f"{stack.url}/health/live", headers={"X-Request-ID": 'not"plain', "X-Forwarded-Proto": "https"}
    )
    assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-ID"])
    assert "Strict-Transport-Security" in response.headers  # the application sees that the client used https
    log = stack.folder / "nginx" / "access.log"
    wait_until(lambda: response.headers["X-Request-ID"] in log.read_text(), log.read_text)  # written after the response


def test_events_are_not_buffered(stack: Stack, upstream: Upstream, headers: dict[str, str]) -> None:
    upstream.script = scripts.hang(after=3)
    # The answer never ends, so a buffered stream would reach this timeout.
    response = stack.post("/api/chat", {"message": "hello"}, {**headers, **STREAM}, preload_content=False, timeout=20)
    assert response.status == 200
    stream = events(response)
    kind, data = next(stream)
    assert kind == "turn.started"
    assert [next(stream)[1]["text"] for _ in range(3)] == ["word0 ", "word1 ", "word2 "]
    assert upstream.open_streams == 1
    stack.post(f"/api/turns/{data['turn']['id']}/cancel", {}, headers)  # any web server may receive it
    assert [kind for kind, _ in stream][-1] == "turn.cancelled"


def test_metrics_need_the_token_and_are_not_published(stack: Stack) -> None:
    token = {"Authorization": f"Bearer {SECRETS['OPS_TOKEN']}"}
    for path in ("/metrics", "//metrics", "/%6detrics", "/./metrics", "/metrics?x=1"):
        outside = stack.http.request("GET", stack.url + path, headers=token)
        assert outside.status == 404
        assert b"parley_" not in outside.data
    inside = f"http://127.0.0.1:{stack.web_ports[0]}/metrics"
    assert stack.http.request("GET", inside).status == 401
    assert b"parley_http_request_duration_seconds" in stack.http.request("GET", inside, headers=token).data


def test_nginx_and_application_have_the_same_body_limit(stack: Stack, headers: dict[str, str]) -> None:
    limit = int(stack.services["web"].environment["MAX_BODY_BYTES"])
    assert stack.services["nginx"].environment["MAX_BODY_BYTES"] == str(limit)
    json_headers = {**headers, "Content-Type": "application/json"}
    for size, expected in ((limit, 400), (limit + 1, 413)):
        response = stack.http.request("POST", f"{stack.url}/api/chat", body=b"x" * size, headers=json_headers)
        assert (response.status, response.headers["Content-Type"]) == (expected, "application/problem+json")
        assert response.json()["status"] == expected


def test_nginx_and_application_have_the_same_limit_for_bodies_of_auth(stack: Stack) -> None:
    for size, expected in ((16_384, 400), (16_385, 413)):
        response = stack.http.request(
            "POST", f"{stack.url}/api/auth/login", body=b"x" * size, headers={"Content-Type": "application/json"}
        )
        assert (response.status, response.json()["status"]) == (expected, expected)


def test_nginx_bounds_half_sent_requests_of_one_address(stack: Stack, headers: dict[str, str]) -> None:
    """Behind a TLS proxy in a private network, the address is the one that this proxy appended."""
    request = "POST /api/auth/login HTTP/1.1\r\nHost: parley\r\nX-Forwarded-For: {}\r\nContent-Length: 100\r\n\r\n"

    def status(address: str, path: str = "/api/conversations") -> int:
        forwarded = {**headers, "X-Forwarded-For": f"198.51.100.1, {address}"}
        return stack.http.request("GET", stack.url + path, headers=forwarded).status

    with ExitStack() as connections:
        for _ in range(250):
            client = connections.enter_context(socket.create_connection(("127.0.0.1", stack.port), timeout=60))
            client.sendall(request.format("203.0.113.5").encode())
        wait_until(lambda: status("203.0.113.5") == 429)
        refused = stack.http.request("GET", f"{stack.url}/", headers={"X-Forwarded-For": "203.0.113.5"})
        assert (refused.json()["code"], refused.headers["Retry-After"]) == ("rate_limited", "2")
        assert status("203.0.113.5", "/health/live") == 200
        assert status("203.0.113.6") == 200
    wait_until(lambda: status("203.0.113.5") == 200)


def test_health_checks_of_image_and_worker(stack: Stack) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    [image] = re.findall(r"HEALTHCHECK .*\\\n +CMD (\[.*\])", dockerfile)
    command = ast.literal_eval(image)
    assert stack.run("web", command).returncode == 0
    assert stack.run("web", command, PORT="1").returncode != 0
    kind, script = stack.services["worker"].raw["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    check = ["sh", "-c", script]
    wait_until(
        lambda: stack.run("worker", check, HOSTNAME=socket.gethostname()).returncode == 0,
        lambda: stack.log("worker 0"),
    )
    assert stack.run("worker", check, HOSTNAME="unknown").returncode != 0


def test_killed_web_server_under_load_runs_no_turn_twice(
    stack: Stack, upstream: Upstream, headers: dict[str, str], count_turns: Any
) -> None:
    upstream.script = scripts.words(10, pause=0.1)
    messages = [uuid4().hex for _ in range(12)]

    def send(message: str) -> urllib3.BaseHTTPResponse:
        return stack.post("/api/chat", {"message": message}, headers)

    with ThreadPoolExecutor(6) as threads:
        pending = [threads.submit(send, message) for message in messages[:6]]
        upstream.wait_for(lambda: upstream.open_streams >= 6)
        stack.kill("web 0")
        answers = [future.result() for future in pending]
        assert {answer.status for answer in answers} == {200, 502}  # both servers had turns
        assert {answer.json()["code"] for answer in answers if answer.status == 502} == {"unreachable"}
        assert [answer.status for answer in threads.map(send, messages[6:])] == [200] * 6
    counts = count_turns()
    assert {message: counts.get(message) for message in messages} == dict.fromkeys(messages, 1)
    stack.start("web", 0)
    stack.wait_for_web(0)


def test_stopped_web_server_finishes_its_streams(stack: Stack, upstream: Upstream, headers: dict[str, str]) -> None:
    """The other server was restarted just before, as in a rolling update; nginx must use it again at once."""

    def request_status() -> int:
        return stack.http.request("GET", f"{stack.url}/api/auth/me", headers=headers).status

    stack.kill("web 0")
    assert [request_status() for _ in range(8)] == [200] * 8
    stack.start("web", 0)
    stack.wait_for_web(0)
    upstream.script = scripts.words(20, pause=0.1)
    before = upstream.open_streams
    responses = [
        stack.post("/api/chat", {"message": "hello"}, {**headers, **STREAM}, preload_content=False) for _ in range(4)
    ]
    upstream.wait_for(lambda: upstream.open_streams >= before + 4)
    stopping = stack.terminate("web 1")
    assert [request_status() for _ in range(10)] == [200] * 10
    for response in responses:
        received = list(events(response))
        assert received[-1][0] == "turn.completed"
        assert "".join(data["text"] for kind, data in received if kind == "message.delta").endswith("word19 ")
    assert [request_status() for _ in range(10)] == [200] * 10
    assert stopping.wait(60) == 0
    stack.start("web", 1)
    stack.wait_for_web(1)


def test_logs_contain_no_ticket(stack: Stack, upstream: Upstream, headers: dict[str, str]) -> None:
    """Nginx's error log shows the request line of a request that met a closed server."""
    upstream.script = scripts.words(3)
    turn = stack.post("/api/chat", {"message": "hello"}, headers).json()["turn"]["id"]
    ticket = stack.post(f"/api/turns/{turn}/ticket", {}, headers).json()["ticket"]
    stack.kill("web 0")
    url = f"{stack.url}/api/turns/{turn}/events?ticket={ticket}"
    assert [stack.http.request("GET", url).status for _ in range(8)] == [200] * 8
    stack.start("web", 0)
    stack.wait_for_web(0)
    access_log = (stack.folder / "nginx" / "access.log").read_text()
    assert access_log.count(f"/api/turns/{turn}/events") == 8
    for log in (access_log, *map(stack.log, ("nginx 0", "web 0", "web 1"))):
        assert ticket not in log
