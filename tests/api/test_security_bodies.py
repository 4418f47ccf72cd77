"""How large a body may be, announced or not."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.config import Settings
from tests.api.keys import problem
from tests.factories import Account

LIMIT = 1_048_576


class Counted(io.RawIOBase):
    """An endless body of one letter, which counts what is taken of it."""

    def __init__(self, beginning: bytes) -> None:
        self._rest = beginning
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._rest[: len(buffer)] or b"a" * len(buffer)
        self._rest = self._rest[len(piece) :]
        buffer[: len(piece)] = piece
        self.taken += len(piece)
        return len(piece)


def send(client: FlaskClient, stream: Any, headers: dict[str, str], **environ: Any) -> TestResponse:
    """Post a stream as it is: the test client would look for its end first."""
    return client.post(
        "/api/projects",
        content_type="application/json",
        headers=headers,
        environ_overrides={"wsgi.input": stream, "CONTENT_LENGTH": "", **environ},
    )


def chunked(client: FlaskClient, stream: Any, headers: dict[str, str]) -> TestResponse:
    """Send a body as gunicorn hands in one that comes in chunks: of no known length, but with an end."""
    return send(client, stream, headers, **{"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True})


def body_of(size: int) -> bytes:
    """A project's body of exactly so many bytes, blank space mostly."""
    text = b'{"name": "x"}'
    return text + b" " * (size - len(text))


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 201), (LIMIT + 1, 413), (3 * LIMIT, 413)])
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_the_limit_is_the_same_however_the_body_comes(
    client: FlaskClient, engine: Engine, user: Account, size: int, status: int, announced: bool
) -> None:
    body = body_of(size)
    if announced:
        headers = {**user.headers, "Content-Type": "application/json"}
        answer = client.post("/api/projects", data=body, headers=headers)
    else:
        answer = chunked(client, io.BytesIO(body), user.headers)
    assert answer.status_code == status, answer.text
    if status == 413:
        assert f"{LIMIT} bytes" in problem(answer, 413, "too_large")["detail"]
    with engine.connect() as connection:
        found = connection.execute(text("SELECT count(*) FROM projects WHERE user_id = :u"), {"u": user.id})
        assert found.scalar_one() == (1 if status == 201 else 0)


def test_a_body_without_an_end_is_not_read_to_it(client: FlaskClient, user: Account) -> None:
    body = Counted(b'{"name": "')
    problem(chunked(client, body, user.headers), 413, "too_large")
    assert LIMIT <= body.taken < 2 * LIMIT


def test_a_body_that_is_announced_too_large_is_not_read_at_all(client: FlaskClient, user: Account) -> None:
    body = Counted(b"{")
    answer = send(client, body, user.headers, CONTENT_LENGTH=str(LIMIT + 1))
    problem(answer, 413, "too_large")
    assert body.taken == 0


def test_a_body_of_unknown_length_from_a_server_that_cannot_end_it_is_none(client: FlaskClient, user: Account) -> None:
    """To read it might be to wait for ever."""
    body = Counted(b'{"name": "x"}')
    answer = send(client, body, user.headers)
    assert set(problem(answer, 400, "invalid_input")["errors"]) == {"name"}
    assert body.taken == 0


def test_the_limit_is_a_setting(make_chat_app: Callable[..., Flask], user: Account, settings: Settings) -> None:
    client = make_chat_app(server={"max_body_bytes": 70_000}).test_client()
    headers = {**user.headers, "Content-Type": "application/json"}
    assert client.post("/api/projects", data=body_of(70_000), headers=headers).status_code == 201
    refused = client.post("/api/projects", data=body_of(70_001), headers=headers)
    assert "70000 bytes" in problem(refused, 413, "too_large")["detail"]


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_forms_are_not_even_parsed(client: FlaskClient, user: Account, content_type: str) -> None:
    body = b"--x\r\nContent-Disposition: form-data; name=name\r\n\r\nx\r\n--x--\r\n" * 1000
    problem(
        client.post("/api/projects", data=body, content_type=content_type, headers=user.headers), 400, "invalid_input"
    )
