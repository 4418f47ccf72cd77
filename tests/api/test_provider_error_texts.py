"""Texts of providers in errors: callers see none of them, operators find them in the log under the request's id."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.logs import request_id
from tests.event_source import TurnReader, parse
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]

MARK = "qzx"  # in each secret, and in nothing else
SECRETS = [
    "Incorrect API key provided: qzx7",
    "password is qzxhunter",
    "postgresql://gateway:qzxpw@db.internal:5432/llm is down",
    "no healthy upstream at gpu-qzx-17.cluster.local:8000 (10.0.3.7)",
    "Authorization: Basic cXp4OnF6eA== of user qzx",
    "token qzx.eyJhIjoxfQ.c2ln",
    "<html><title>504</title> nginx at qzx.svc.cluster.local</html>",
    "AKIAQZX qzx/wJalr+XUtn",
    "qzx" * 400,
    "-----BEGIN PRIVATE KEY-----\nqzxMII\n-----END PRIVATE KEY-----",
    "key \u200bqzx\u202e hidden",
]


def header(name: str, value: str, status: int = 200) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.head(status, None, headers={name: value})
        await exchange.send(b"data")
        await exchange.end()

    return script


def shapes(text: str) -> dict[str, Script]:
    """Return responses that carry `text`, in each place that a provider has."""
    event = scripts.chunk({"content": "A"})
    in_stream = f"data: {json.dumps(event)}\n\ndata: {json.dumps({'error': {'message': text}})}\n\n".encode()
    return {
        "message of 400": scripts.api_error(400, text),
        "message of 401": scripts.api_error(401, text),
        "message of 429": scripts.api_error(429, text),
        "message of 500": scripts.api_error(500, text),
        "code": scripts.api_error(400, "no", code=text),
        "plain text": scripts.status(502, text),
        "detail": scripts.status(422, {"detail": [{"loc": ["body"], "msg": text}]}),
        "unknown shape": scripts.status(503, {"trace": {"at": text}}),
        "inside a 200": scripts.status(200, {"error": text}),
        "in the stream": scripts.raw(in_stream),
        "finish reason": scripts.raw(
            f"data: {json.dumps({'choices': [{'delta': {}, 'finish_reason': 'error', 'error': text}]})}\n\n".encode()
        ),
        "redirect": scripts.status(302, text, headers={"Location": f"http://{MARK}.internal/"}),
    }


@pytest.mark.parametrize("place", shapes(""))
@pytest.mark.parametrize("text", SECRETS)
def test_caller_sees_no_text_of_a_provider(
    chat: Chat, chat_app: Flask, upstream: Upstream, user: LoggedInUser, place: str, text: str
) -> None:
    upstream.script = shapes(text)[place]
    answer = chat("hello")
    shown = answer.get_data(as_text=True) + str(answer.headers)
    streamed = chat("hello", stream=True)
    reader = TurnReader().read(parse(streamed.get_data()))
    shown += streamed.get_data(as_text=True)
    for path in (f"/api/turns/{reader.turn['id']}", f"/api/conversations/{reader.turn['conversation_id']}/messages"):
        shown += chat_app.test_client().get(path, headers=user.headers).get_data(as_text=True)
    assert MARK not in shown.lower()
    assert answer.status_code >= 500


@pytest.mark.parametrize("name", ["Content-Type", "Content-Encoding"])
def test_caller_sees_no_header_of_a_provider(chat: Chat, upstream: Upstream, name: str) -> None:
    upstream.script = header(name, f"{MARK}/{MARK}")
    answer = chat("hello")
    assert (answer.status_code, MARK in answer.get_data(as_text=True)) == (502, False)


def test_operator_finds_the_text_under_the_id_of_the_request(
    chat: Chat, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[str, str]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append((request_id.get(), record.getMessage()))

    handler = Keep()
    logging.getLogger("parley.providers").addHandler(handler)
    try:
        upstream.script = scripts.api_error(400, f"temperature {MARK} must be below 2")
        answer = chat("hello")
    finally:
        logging.getLogger("parley.providers").removeHandler(handler)
    problem = answer.get_json()
    assert problem["detail"].endswith("An operator finds its message in the log, under the id of this request.")
    assert [text for id_, text in seen if id_ == problem["request_id"] and f"temperature {MARK} must be" in text]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:99", "a b", "127.0.0.1"])
@pytest.mark.parametrize("path", ["/api/projects/", "/docs/", "//api/projects", "/api//projects?limit=2&x=%2F%2Fy"])
def test_redirect_of_the_router_names_no_host(chat_app: Flask, user: LoggedInUser, host: str, path: str) -> None:
    headers: dict[str, Any] = {**user.headers, "Host": host}
    response = chat_app.test_client().get(path, headers=headers)
    assert host not in response.get_data(as_text=True) + response.headers.get("Location", "")
    if response.status_code == 308:
        assert response.content_type == "application/problem+json"
        assert response.get_json()["status"] == 308
        assert response.headers["Location"].startswith("/")
        assert not response.headers["Location"].startswith("//")
    else:
        assert response.status_code in (400, 404)
