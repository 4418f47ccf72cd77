"""JSON of all responses: UTF-8 by one encoder."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from app.config import Settings
from app.encoding import encode_json, encode_json_line
from app.extensions import db
from tests.contracts.application import as_served
from tests.factories import LoggedInUser

GREETING = "你好 café 😀\u2028\u2029"


@given(
    st.recursive(
        st.text() | st.integers() | st.none() | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_encoded_line_is_one_line_for_every_reader(value: Any) -> None:
    line = encode_json_line({"value": value})
    assert len(line.decode().splitlines()) == 1


@given(st.text())
def test_encoded_text_is_unchanged_after_decoding(text: str) -> None:
    assert orjson.loads(encode_json_line([text])) == [text]
    assert orjson.loads(encode_json([text])) == [text]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("你好", '"你好"'),
        ({"a": 1, 2: "b"}, '{"a":1,"2":"b"}'),
        (2**70, str(2**70)),
        ("a\ud83d", '"a\ufffd"'),
        (float("nan"), "null"),
        (Decimal("1.50"), '"1.50"'),
        (
            [2**70, UUID(int=1), datetime(2026, 1, 2, tzinfo=UTC)],
            f'[{2**70},"{UUID(int=1)}","2026-01-02T00:00:00+00:00"]',
        ),
    ],
)
def test_encodes(value: Any, expected: str) -> None:
    assert encode_json(value).decode() == expected


def test_unknown_type_raises() -> None:
    with pytest.raises(TypeError):
        encode_json(object())


def test_responses_are_utf8(chat_app: Flask, user: LoggedInUser) -> None:
    client = chat_app.test_client()
    chat = client.post("/api/chat", json={"message": GREETING}, headers=user.headers)
    conversation = chat.get_json()["conversation"]["id"]
    client.patch("/api/auth/me", json={"name": GREETING}, headers=user.headers)
    client.post("/api/projects", json={"name": GREETING}, headers=user.headers)
    paths = [
        "/api/auth/me",
        "/api/projects",
        "/api/conversations",
        f"/api/conversations/{conversation}",
        f"/api/conversations/{conversation}/messages",
        f"/api/conversations/{conversation}/export",
    ]
    responses = [chat, *(client.get(path, headers=user.headers) for path in paths)]
    responses += [client.post("/api/chat", json={GREETING: 1}, headers=user.headers)]
    for response in responses:
        assert "你好 café 😀".encode() in response.get_data(), response.get_data()
        assert b"\\u4f60" not in response.get_data()


def test_admin_responses_are_utf8(settings: Settings, make_user: Callable[..., LoggedInUser]) -> None:
    operator, named = make_user(role="operator"), make_user(name=GREETING)
    flask_app = as_served(settings)
    response = flask_app.test_client().get(f"/api/admin/users/{named.id}", headers=operator.headers)
    with flask_app.app_context():
        db.engine.dispose()
    assert response.status_code == 200
    assert "你好 café 😀".encode() in response.get_data()


def test_each_message_of_an_export_is_one_line(chat_app: Flask, user: LoggedInUser) -> None:
    client = chat_app.test_client()
    chat = client.post("/api/chat", json={"message": f"{GREETING}\x85\x0b"}, headers=user.headers).get_json()
    response = client.get(f"/api/conversations/{chat['conversation']['id']}/export", headers=user.headers)
    lines = response.get_data().decode().splitlines()
    assert len(lines) == 4  # the conversation, two messages, the end
    assert response.get_json()["messages"][0]["content"] == f"{GREETING}\x85\x0b"
