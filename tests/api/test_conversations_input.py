"""Invalid input of conversations: nothing is stored, and the response names the field."""

from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from tests.api.rows import owned_rows
from tests.factories import LoggedInUser, make_conversation

URL = "/api/conversations"


def nested(depth: int) -> dict[str, Any]:
    """Return an object of `depth` levels."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def send_both(client: FlaskClient, engine: Engine, account: LoggedInUser, raw: bytes) -> list[Any]:
    """Send a body with POST and PATCH, and assert that a refused one stores nothing."""
    conversation = make_conversation(engine, account, title="before")
    before, answers = owned_rows(engine, account), []
    for method, url in (("POST", URL), ("PATCH", f"{URL}/{conversation}")):
        answer = client.open(url, method=method, data=raw, content_type="application/json", headers=account.headers)
        if answer.status_code >= 400:
            assert owned_rows(engine, account) == before
        answers.append(answer)
    return answers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "01a204a5-5f8f-7070-9a16-e8ff4b130aaf"),
        ("user_id", "01a204a5-5f8f-7070-9a16-e8ff4b130aaf"),
        ("message_count", 5),
        ("next_position", 5),
        ("running_attempt", None),
        ("storage", "bundled"),
        ("legal_hold", False),
        ("status", "archived"),
        ("preview", "x"),
        ("meta", {}),
        ("created_at", "2026-01-01T00:00:00Z"),
        ("updated_at", "2026-01-01T00:00:00Z"),
        ("surprise", 1),
    ],
)
def test_unknown_or_read_only_field_is_400(
    client: FlaskClient, engine: Engine, user: LoggedInUser, name: str, value: Any
) -> None:
    for answer in send_both(client, engine, user, orjson.dumps({"title": "ok", name: value})):
        assert answer.status_code == 400
        assert answer.json["errors"] == {name: ["Unknown field."]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("title", ""),
        ("title", "  \n "),
        ("title", "x" * 201),
        ("title", 5),
        ("title", ["x"]),
        ("project_id", "x"),
        ("project_id", 1),
        ("metadata", None),
        ("metadata", "x"),
        ("metadata", []),
        ("metadata", {"a": "x" * (16 * 1024 - 7)}),
        ("metadata", {"a": "é" * (8 * 1024 - 3)}),
        ("metadata", {"a": 1e19 * 10}),
        ("metadata", {"a": [{"b": -1e308}]}),
        ("metadata", {"a": 1e-300}),
    ],
)
def test_invalid_value_is_400_with_field(
    client: FlaskClient, engine: Engine, user: LoggedInUser, name: str, value: Any
) -> None:
    for answer in send_both(client, engine, user, orjson.dumps({name: value})):
        assert answer.status_code == 400
        assert list(answer.json["errors"]) == [name]


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"title": "a\u0000b"}',
        b'{"title": "a\0b"}',
        rb'{"title": "\ud800"}',
        b'{"title": "\xed\xa0\x80"}',
        b'{"title": "\xff"}',
        rb'{"metadata": {"a\u0000": 1}}',
        rb'{"metadata": {"a": {"b": ["x", "\u0000"]}}}',
        rb'{"metadata": {"\ud800": 1}}',
        rb'{"metadata": {"a": ["\udc00"]}}',
        b'{"metadata": {"a": NaN}}',
        b'{"metadata": {"a": Infinity}}',
        b'{"metadata": {"a": 1e400}}',
        b'{"metadata": {"a": 1' + b"0" * 400 + b"}}",
        b'{"metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"title": "x"',
        b'["title"]',
        b'"title"',
        b"null",
        b"1",
    ],
)
def test_unreadable_or_unstorable_body_is_400(
    client: FlaskClient, engine: Engine, user: LoggedInUser, raw: bytes
) -> None:
    for answer in send_both(client, engine, user, raw):
        assert answer.status_code == 400
        assert answer.content_type == "application/problem+json"
        assert answer.json["detail"]


def test_metadata_at_limits_is_stored(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    largest = {"a": "x" * (16 * 1024 - 8)}
    assert len(orjson.dumps(largest)) == 16 * 1024
    numbers = {"a": [0, -0.5, 2**64 - 1, -(2**63), 1e-30, 1.5e18, 0.1]}
    for metadata in (largest, nested(31), numbers, {"é": "\U0001f686", "\\": '"', "\u2028": "\x1f"}):
        for answer in send_both(client, engine, user, orjson.dumps({"metadata": metadata})):
            assert answer.status_code < 300, answer.json
            assert answer.json["metadata"] == metadata


def test_too_deep_metadata_is_400(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    for answer in send_both(client, engine, user, orjson.dumps({"metadata": nested(40)})):
        assert answer.status_code == 400
        assert "Nested deeper" in str(answer.json["errors"])


@pytest.mark.parametrize("place", ["1", "x", "%00", "..", "01a204a5-5f8f-7070-9a16-e8ff4b130aa", "🚆"])
def test_malformed_id_is_404(client: FlaskClient, user: LoggedInUser, place: str) -> None:
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/archive"), ("GET", "/messages")):
        answer = client.open(f"{URL}/{place}{path}", method=method, json={}, headers=user.headers)
        assert answer.status_code == 404
        assert answer.content_type == "application/problem+json"
