"""Streams as common client libraries read them, from a real server."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx2
import orjson
import pytest
import requests
from flask import Flask

from tests.event_source import parse
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.web.server import WebServer

pytestmark = pytest.mark.process

# Each character at which `str.splitlines` cuts, and three others.
CHARACTERS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\x7f\u200b😀"
TEXT = "".join(f"[{ord(character):x}{character}]" for character in CHARACTERS)
BODY = {"message": "hello", "stream": True}


@pytest.fixture(scope="module")
def server(flask_app: Flask, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    pieces = [TEXT[start : start + 7] for start in range(0, len(TEXT), 7)]
    with Upstream(scripts.stream_pieces(pieces)) as upstream:
        settings = {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": upstream.base_url, "WEB_WORKERS": "1"}
        home: Path = tmp_path_factory.mktemp("web")
        with WebServer(home, DATABASE_URL=database_url, **settings) as server:
            yield server


def requests_lines(url: str, headers: dict[str, str], *, decode: bool) -> Iterator[str]:
    with requests.post(url, json=BODY, headers=headers, stream=True, timeout=60) as response:
        response.encoding = "utf-8"
        for line in response.iter_lines(decode_unicode=decode):
            yield line if decode else line.decode()


def httpx_lines(url: str, headers: dict[str, str]) -> Iterator[str]:
    with httpx2.stream("POST", url, json=BODY, headers=headers, timeout=60) as response:
        yield from response.iter_lines()


CLIENTS: dict[str, Callable[[str, dict[str, str]], Iterable[str]]] = {
    "requests": lambda url, headers: requests_lines(url, headers, decode=False),
    "requests, decoded": lambda url, headers: requests_lines(url, headers, decode=True),
    "httpx": httpx_lines,
}


@pytest.mark.parametrize("client", CLIENTS)
def test_line_reader_receives_each_event_on_its_lines(server: WebServer, user: LoggedInUser, client: str) -> None:
    lines = list(CLIENTS[client](f"{server.url}/api/chat", user.headers))
    assert {line.partition(":")[0] for line in lines} == {"", "id", "event", "data"}  # "" is an empty line or a comment
    data = [orjson.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert "".join(item["text"] for item in data if "text" in item) == TEXT
    assert [item["message"]["content"] for item in data if "message" in item] == [TEXT]


def test_standard_parser_receives_text(server: WebServer, user: LoggedInUser) -> None:
    body = server.post("/api/chat", BODY, user.headers).data
    events = list(parse(body))
    assert "".join(orjson.loads(event.data)["text"] for event in events if event.kind == "message.delta") == TEXT
    assert [int(event.id) for event in events] == list(range(1, len(events) + 1))
