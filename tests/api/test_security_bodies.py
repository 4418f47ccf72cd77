"""The size limit of bodies, with Content-Length and chunked."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.config import Settings
from tests.api.responses import assert_problem
from tests.factories import LoggedInUser

LIMIT = 1_048_576


class CountedBody(io.RawIOBase):
    """An endless body of one letter that counts the bytes read."""

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
    """Post a stream unchanged: the test client would read it to its end first."""
    return client.post(
        "/api/projects",
        content_type="application/json",
        headers=headers,
        environ_overrides={"wsgi.input": stream, "CONTENT_LENGTH": "", **environ},
    )


def chunked(client: FlaskClient, stream: Any, headers: dict[str, str]) -> TestResponse:
    """Post a body as gunicorn passes a chunked one: without a length, but with an end."""
    return send(client, stream, headers, **{"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True})


def body_of(size: int) -> bytes:
    """Return the body of a project of exactly `size` bytes, mostly white space."""
    text = b'{"name": "x"}'
    return text + b" " * (size - len(text))


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 201), (LIMIT + 1, 413), (3 * LIMIT, 413)])
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_limit_is_the_same_for_announced_and_chunked_body(
    client: FlaskClient, engine: Engine, user: LoggedInUser, size: int, status: int, announced: bool
) -> None:
    body = body_of(size)
    if announced:
        headers = {**user.headers, "Content-Type": "application/json"}
        answer = client.post("/api/projects", data=body, headers=headers)
    else:
        answer = chunked(client, io.BytesIO(body), user.headers)
    assert answer.status_code == status, answer.text
    if status == 413:
        assert f"{LIMIT} bytes" in assert_problem(answer, 413, "too_large")["detail"]
    with engine.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM projects WHERE user_id = :u"), {"u": user.id})
        assert count.scalar_one() == (1 if status == 201 else 0)


def test_endless_body_is_read_only_to_limit(client: FlaskClient, user: LoggedInUser) -> None:
    body = CountedBody(b'{"name": "')
    assert_problem(chunked(client, body, user.headers), 413, "too_large")
    assert LIMIT <= body.taken < 2 * LIMIT


def test_body_announced_above_limit_is_not_read(client: FlaskClient, user: LoggedInUser) -> None:
    body = CountedBody(b"{")
    answer = send(client, body, user.headers, CONTENT_LENGTH=str(LIMIT + 1))
    assert_problem(answer, 413, "too_large")
    assert body.taken == 0


def test_body_of_unknown_length_without_end_is_ignored(client: FlaskClient, user: LoggedInUser) -> None:
    """Reading it could block for ever."""
    body = CountedBody(b'{"name": "x"}')
    answer = send(client, body, user.headers)
    assert set(assert_problem(answer, 400, "invalid_input")["errors"]) == {"name"}
    assert body.taken == 0


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/api/auth/login", 16_384),
        ("/api/auth/register", 16_384),
        ("/api/auth/password", 16_384),
        ("/api/auth/keys", 16_384),
    ],
)
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_body_of_auth_has_lower_limit(
    client: FlaskClient, user: LoggedInUser, path: str, limit: int, announced: bool
) -> None:
    for size, status in ((limit, 400), (limit + 1, 413)):
        data = b'{"x": 1}' + b" " * (size - 8)
        environ = {} if announced else {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
        if not announced:
            environ |= {"wsgi.input": io.BytesIO(data), "CONTENT_LENGTH": ""}
        answer = client.post(
            path,
            data=data if announced else None,
            headers=user.headers,
            content_type="application/json",
            environ_overrides=environ,
        )
        assert answer.status_code == status, answer.text
    assert f"{limit} bytes" in assert_problem(answer, 413, "too_large")["detail"]


def test_body_with_many_unknown_fields_is_not_examined(client: FlaskClient, user: LoggedInUser) -> None:
    fields = {f"k{number}": 1 for number in range(1500)}
    for path, body in (
        ("/api/auth/login", fields),
        ("/api/chat", fields),
        ("/api/conversations/import", {"version": 1, "conversation": fields, "messages": [fields]}),
    ):
        answer = client.post(path, json=body, headers=user.headers)
        errors = assert_problem(answer, 400, "invalid_input")["errors"]
        assert ["Has more than 100 fields."] in errors.values()
        assert len(errors) <= 3


def test_query_with_many_unknown_parameters_is_not_examined(client: FlaskClient, user: LoggedInUser) -> None:
    query = "&".join(f"k{number}=1" for number in range(1000))
    answer = client.get(f"/api/conversations?{query}", headers=user.headers)
    assert list(assert_problem(answer, 400, "invalid_input")["errors"].values()) == [["Has more than 100 fields."]]


def test_import_reports_first_problems_only(client: FlaskClient, user: LoggedInUser) -> None:
    message = {"role": "unknown", "content": 1}
    body = {"version": 1, "conversation": {}, "messages": [message] * 20_000}
    problem = assert_problem(
        client.post("/api/conversations/import", json=body, headers=user.headers), 400, "invalid_input"
    )
    assert len(problem["errors"]) == 50
    assert set(problem["errors"]) >= {"messages.0.role", "messages.24.content"}
    three = {**body, "messages": [{"role": "user", "content": "x"}, message, message]}
    problem = assert_problem(
        client.post("/api/conversations/import", json=three, headers=user.headers), 400, "invalid_input"
    )
    assert set(problem["errors"]) == {f"messages.{n}.{field}" for n in (1, 2) for field in ("role", "content")}


def test_long_name_of_unknown_field_is_shortened(client: FlaskClient, user: LoggedInUser) -> None:
    answer = client.post("/api/projects", json={"name": "x", "y" * 100_000: 1}, headers=user.headers)
    assert list(assert_problem(answer, 400, "invalid_input")["errors"]) == ["y" * 197 + "..."]


def test_limit_is_setting(make_chat_app: Callable[..., Flask], user: LoggedInUser, settings: Settings) -> None:
    client = make_chat_app(server={"max_body_bytes": 70_000}).test_client()
    headers = {**user.headers, "Content-Type": "application/json"}
    assert client.post("/api/projects", data=body_of(70_000), headers=headers).status_code == 201
    refused = client.post("/api/projects", data=body_of(70_001), headers=headers)
    assert "70000 bytes" in assert_problem(refused, 413, "too_large")["detail"]


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_forms_are_not_parsed(client: FlaskClient, user: LoggedInUser, content_type: str) -> None:
    body = b"--x\r\nContent-Disposition: form-data; name=name\r\n\r\nx\r\n--x--\r\n" * 1000
    assert_problem(
        client.post("/api/projects", data=body, content_type=content_type, headers=user.headers), 400, "invalid_input"
    )
