"""The stack as people meet it, through nginx: chats, streams, a web server that is killed, one that is stopped."""

import ast
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import orjson
import pytest
import urllib3
from sqlalchemy import NullPool, create_engine, text

from tests.deploy.compose import ROOT, SECRETS
from tests.deploy.stack import Stack, until
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("deploy")]

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="session")
def headers(stack: Stack) -> dict[str, str]:
    """Somebody who registered through nginx."""
    person = {"email": f"{uuid4().hex}@example.org", "password": "a long password", "name": "Ada"}
    response = stack.post("/api/auth/register", person, {})
    assert response.status == 201, response.data
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


@pytest.fixture
def turns(deployed_url: str) -> Iterator[Any]:
    """A function that counts the turns by the message that began them."""
    engine = create_engine(deployed_url, poolclass=NullPool)

    def turns() -> dict[str, int]:
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT content, count(*) FROM messages WHERE role = 'user' GROUP BY 1"))
            return {row[0]: row[1] for row in rows}

    yield turns
    engine.dispose()


def events(response: urllib3.BaseHTTPResponse) -> Iterator[tuple[str, Any]]:
    """Kinds and data as they arrive."""
    rest = b""
    while piece := response.read1(65_536):
        *blocks, rest = (rest + piece).split(b"\n\n")
        for block in blocks:
            lines = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
            if lines:
                yield lines[b"event"].decode(), orjson.loads(lines[b"data"])


def test_a_chat_is_answered_as_json(stack: Stack, upstream: Upstream, headers: dict[str, str]) -> None:
    upstream.script = scripts.words(3)
    response = stack.post("/api/chat", {"message": "hello"}, {**headers, "X-Request-ID": "mine-1"})
    assert (response.status, response.headers["X-Request-ID"]) == (200, "mine-1")
    assert response.json()["message"]["content"] == "word0 word1 word2 "


def test_nginx_gives_a_request_its_id_and_says_how_it_came(stack: Stack) -> None:
    response = stack.http.request(
        "GET", f"{stack.url}/health/live", headers={"X-Request-ID": 'not"plain', "X-Forwarded-Proto": "https"}
    )
    assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-ID"])
    assert "Strict-Transport-Security" in response.headers  # the application heard that it was https outside
    log = stack.folder / "nginx" / "access.log"
    until(lambda: response.headers["X-Request-ID"] in log.read_text(), log.read_text)  # written after the answer


def test_events_arrive_one_by_one(stack: Stack, upstream: Upstream, headers: dict[str, str]) -> None:
    """The provider says three words and then nothing: who hears them, hears them before the answer's end."""
    upstream.script = scripts.hang(after=3)
    # What is held back until the end never comes, and the wait for it ends here.
    response = stack.post("/api/chat", {"message": "hello"}, {**headers, **STREAM}, preload_content=False, timeout=20)
    assert response.status == 200
    stream = events(response)
    kind, data = next(stream)
    assert kind == "turn.started"
    assert [next(stream)[1]["text"] for _ in range(3)] == ["word0 ", "word1 ", "word2 "]
    assert upstream.open_streams == 1
    stack.post(f"/api/turns/{data['turn']['id']}/cancel", {}, headers)  # at either web server
    assert [kind for kind, _ in stream][-1] == "turn.cancelled"


def test_metrics_are_for_whoever_has_the_token_and_is_inside(stack: Stack) -> None:
    token = {"Authorization": f"Bearer {SECRETS['OPS_TOKEN']}"}
    for path in ("/metrics", "//metrics", "/%6detrics", "/./metrics", "/metrics?x=1"):
        outside = stack.http.request("GET", stack.url + path, headers=token)
        assert outside.status == 404
        assert b"parley_" not in outside.data
    inside = f"http://127.0.0.1:{stack.web_ports[0]}/metrics"
    assert stack.http.request("GET", inside).status == 401
    assert b"parley_http_request_duration_seconds" in stack.http.request("GET", inside, headers=token).data


def test_a_body_may_be_as_large_outside_as_inside(stack: Stack, headers: dict[str, str]) -> None:
    limit = int(stack.services["web"].environment["MAX_BODY_BYTES"])
    assert stack.services["nginx"].environment["MAX_BODY_BYTES"] == str(limit)
    sent = {**headers, "Content-Type": "application/json"}
    for size, expected in ((limit, 400), (limit + 1, 413)):
        response = stack.http.request("POST", f"{stack.url}/api/chat", body=b"x" * size, headers=sent)
        assert (response.status, response.headers["Content-Type"]) == (expected, "application/problem+json")
        assert response.json()["status"] == expected


def test_the_health_checks_of_image_and_worker_tell_the_living_from_the_dead(stack: Stack) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    [image] = re.findall(r"HEALTHCHECK .*\\\n +CMD (\[.*\])", dockerfile)
    command = ast.literal_eval(image)
    assert stack.run("web", command).returncode == 0
    assert stack.run("web", command, PORT="1").returncode != 0
    kind, script = stack.services["worker"].raw["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    asked = ["sh", "-c", script]
    until(
        lambda: stack.run("worker", asked, HOSTNAME=socket.gethostname()).returncode == 0,
        lambda: stack.log("worker 0"),
    )
    assert stack.run("worker", asked, HOSTNAME="nobody").returncode != 0


def test_one_web_server_killed_under_load(
    stack: Stack, upstream: Upstream, headers: dict[str, str], turns: Any
) -> None:
    upstream.script = scripts.words(10, pause=0.1)
    said = [uuid4().hex for _ in range(12)]

    def say(message: str) -> urllib3.BaseHTTPResponse:
        return stack.post("/api/chat", {"message": message}, headers)

    with ThreadPoolExecutor(6) as threads:
        pending = [threads.submit(say, message) for message in said[:6]]
        upstream.wait_for(lambda: upstream.open_streams >= 6)
        stack.kill("web 0")
        answers = [future.result() for future in pending]
        assert {answer.status for answer in answers} == {200, 502}  # both had some
        assert {answer.json()["code"] for answer in answers if answer.status == 502} == {"unreachable"}
        assert [answer.status for answer in threads.map(say, said[6:])] == [200] * 6
    begun = turns()
    assert {message: begun.get(message) for message in said} == dict.fromkeys(said, 1)
    stack.start("web", 0)
    stack.wait_for_web(0)


def test_one_web_server_stopped_while_it_streams(stack: Stack, upstream: Upstream, headers: dict[str, str]) -> None:
    """The other one was away a moment ago, as when they are replaced one after the other: it serves all the same."""

    def me() -> int:
        return stack.http.request("GET", f"{stack.url}/api/auth/me", headers=headers).status

    stack.kill("web 0")
    assert [me() for _ in range(8)] == [200] * 8
    stack.start("web", 0)
    stack.wait_for_web(0)
    upstream.script = scripts.words(20, pause=0.1)
    before = upstream.open_streams
    responses = [
        stack.post("/api/chat", {"message": "hello"}, {**headers, **STREAM}, preload_content=False) for _ in range(4)
    ]
    upstream.wait_for(lambda: upstream.open_streams >= before + 4)
    stopping = stack.ask_to_stop("web 1")
    assert [me() for _ in range(10)] == [200] * 10
    for response in responses:
        told = list(events(response))
        assert told[-1][0] == "turn.completed"
        assert "".join(data["text"] for kind, data in told if kind == "message.delta").endswith("word19 ")
    assert [me() for _ in range(10)] == [200] * 10
    assert stopping.wait(60) == 0
    stack.start("web", 1)
    stack.wait_for_web(1)
