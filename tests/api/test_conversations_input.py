"""What is refused: nothing of it is stored, and the answer says which field."""

from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from tests.api.rows import owned_rows
from tests.factories import Account, make_conversation

URL = "/api/conversations"


def nested(depth: int) -> dict[str, Any]:
    """An object of this many levels."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def send_both(client: FlaskClient, engine: Engine, account: Account, raw: bytes) -> list[Any]:
    """Send a body to POST and to PATCH; nothing may be stored unless it was accepted."""
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
def test_unknown_fields_and_those_that_are_ours_to_set_are_refused(
    client: FlaskClient, engine: Engine, user: Account, name: str, value: Any
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
def test_wrong_values_are_refused_by_name(
    client: FlaskClient, engine: Engine, user: Account, name: str, value: Any
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
def test_bodies_that_cannot_be_stored_or_read_are_refused(
    client: FlaskClient, engine: Engine, user: Account, raw: bytes
) -> None:
    for answer in send_both(client, engine, user, raw):
        assert answer.status_code == 400
        assert answer.content_type == "application/problem+json"
        assert answer.json["detail"]


def test_metadata_is_kept_up_to_its_limits(client: FlaskClient, engine: Engine, user: Account) -> None:
    largest = {"a": "x" * (16 * 1024 - 8)}
    assert len(orjson.dumps(largest)) == 16 * 1024
    numbers = {"a": [0, -0.5, 2**64 - 1, -(2**63), 1e-30, 1.5e18, 0.1]}
    for metadata in (largest, nested(31), numbers, {"é": "\U0001f686", "\\": '"', "\u2028": "\x1f"}):
        for answer in send_both(client, engine, user, orjson.dumps({"metadata": metadata})):
            assert answer.status_code < 300, answer.json
            assert answer.json["metadata"] == metadata


def test_metadata_that_is_too_deep_is_refused(client: FlaskClient, engine: Engine, user: Account) -> None:
    for answer in send_both(client, engine, user, orjson.dumps({"metadata": nested(40)})):
        assert answer.status_code == 400
        assert "Nested deeper" in str(answer.json["errors"])


@pytest.mark.parametrize("place", ["1", "x", "%00", "..", "01a204a5-5f8f-7070-9a16-e8ff4b130aa", "🚆"])
def test_ids_that_are_none_are_not_found(client: FlaskClient, user: Account, place: str) -> None:
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/archive"), ("GET", "/messages")):
        answer = client.open(f"{URL}/{place}{path}", method=method, json={}, headers=user.headers)
        assert answer.status_code == 404
        assert answer.content_type == "application/problem+json"
