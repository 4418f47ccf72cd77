"""Options of projects and requests: bounded, sent to the provider, stored, and part of a repeated request."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.exchange import Exchange
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]
SCHEMA = {
    "type": "object",
    "properties": {"städte": {"type": "array", "items": {"$ref": "#/$defs/city"}}},
    "$defs": {"city": {"type": "string", "description": "מקום, 場所"}},
}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "cities", "schema": SCHEMA, "strict": True}}


def nested(levels: int) -> dict[str, Any]:
    """Return a JSON Schema with that many levels."""
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"not": schema}
    return schema


def in_format(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}


@pytest.fixture
def new_project(chat_client: FlaskClient, user: LoggedInUser) -> Callable[..., str]:
    """Return a function that creates a project with these settings and returns its id."""

    def create(**settings: Any) -> str:
        body = {"name": "Bot", "settings": settings}
        created = chat_client.post("/api/projects", json=body, headers=user.headers)
        assert created.status_code == 201, created.json
        assert created.json["settings"] == settings
        return str(created.json["id"])

    return create


def sent(upstream: Upstream) -> dict[str, Any]:
    """Return the body of the last request to the provider."""
    return dict(upstream.requests[-1].body)


INVALID = [
    ({"history": -1}, "history"),
    ({"history": 21}, "history"),  # more than CHAT_HISTORY_MESSAGES
    ({"history": 501}, "history"),
    ({"history": 1.5}, "history"),
    ({"history": True}, "history"),
    ({"history": None}, "history"),
    ({"temperature": 2.5}, "temperature"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"tools": "all"}, "tools"),
    ({"top_p": 1}, "top_p"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {**JSON_SCHEMA, "type": "json_object"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, "response_format.json_schema.schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "größe", "schema": {}}}},
        "response_format.json_schema.name",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n\n", "schema": {}}}},
        "response_format.json_schema.name",
    ),
    (in_format([]), "response_format.json_schema.schema"),
    (in_format({"type": "objekt"}), "response_format.json_schema.schema"),
    (in_format({"properties": {"a": 1}}), "response_format.json_schema.schema"),
    (in_format({"$schema": "https://example.org/schema"}), "response_format.json_schema.schema"),
    (in_format({"not": {"$ref": "http://127.0.0.1:9/schema"}}), "response_format.json_schema.schema"),
    (in_format(nested(21)), "response_format.json_schema.schema"),
    (in_format({"description": "ä" * 8192}), "response_format.json_schema.schema"),
    (in_format({"maximum": 1e308}), "response_format.json_schema.schema"),
]


@pytest.mark.parametrize(("options", "field"), INVALID)
def test_invalid_option_is_400_with_field(
    chat: Chat, chat_client: FlaskClient, user: LoggedInUser, rows: Rows, options: dict[str, Any], field: str
) -> None:
    refused = chat(options=options)
    assert (refused.status_code, list(refused.json["errors"])) == (400, [f"options.{field}"])
    body = {"name": "Bot", "settings": options}
    refused = chat_client.post("/api/projects", json=body, headers=user.headers)
    assert (refused.status_code, list(refused.json["errors"])) == (400, [f"settings.{field}"])
    for table in ("projects", "conversations"):
        assert rows(f"SELECT FROM {table} WHERE user_id = :u", u=user.id) == []


def test_problem_of_a_schema_names_the_place(chat: Chat) -> None:
    [problem] = chat(options=in_format({"properties": {"größe": {"type": 3}}})).json["errors"].values()
    assert problem[0].startswith("Not a JSON Schema: properties.größe.type: 3 is not valid")


def test_deepest_and_largest_schema_are_accepted(new_project: Callable[..., str]) -> None:
    new_project(**in_format(nested(20)))
    new_project(**in_format({"description": "x" * (16_384 - len('{"description":""}'))}))


def test_project_settings_reach_the_provider(
    chat: Chat, new_project: Callable[..., str], upstream: Upstream, rows: Rows, user: LoggedInUser
) -> None:
    project = new_project(temperature=0.5, max_output_tokens=7, history=2, response_format=JSON_SCHEMA, tools=[])
    conversation = chat("one", project_id=project).json["conversation"]["id"]
    for message in ("two", "three"):
        assert chat(message, conversation_id=conversation).status_code == 200
    body = sent(upstream)
    assert (body["temperature"], body["max_tokens"], body["response_format"]) == (0.5, 7, JSON_SCHEMA)
    assert "tools" not in body
    assert [message["content"] for message in body["messages"] if message["role"] == "user"] == ["two", "three"]
    assert {str(row.metadata) for row in rows("SELECT metadata FROM messages WHERE user_id = :u", u=user.id)} == {"{}"}


def test_request_options_replace_those_of_the_project_and_are_stored(
    chat: Chat, new_project: Callable[..., str], upstream: Upstream, rows: Rows, user: LoggedInUser
) -> None:
    project = new_project(temperature=0.5, max_output_tokens=7, history=0, response_format={"type": "json_object"})
    conversation = chat("one", project_id=project).json["conversation"]["id"]
    assert [message["content"] for message in sent(upstream)["messages"]] == ["one"]
    options = {"temperature": 1.0, "history": 2, "response_format": {"type": "text"}}
    assert chat("two", conversation_id=conversation, options=options).status_code == 200
    body = sent(upstream)
    assert (body["temperature"], body["max_tokens"]) == (1.0, 7)
    assert "response_format" not in body
    assert len(body["messages"]) == 3
    stored = rows("SELECT metadata FROM messages WHERE user_id = :u ORDER BY position", u=user.id)
    assert [row.metadata for row in stored] == [{}, {}, {"options": options}, {}]
    chat("three", conversation_id=conversation)
    assert sent(upstream)["temperature"] == 0.5
    assert [message["content"] for message in sent(upstream)["messages"]] == ["three"]


@pytest.mark.parametrize(
    ("project", "request_", "offered"),
    [
        (None, ["list_tasks", "none_such"], {"list_tasks"}),
        (["list_tasks", "add_task"], None, {"list_tasks", "add_task"}),
        (["list_tasks", "add_task"], ["add_task", "complete_task"], {"add_task"}),
        (["list_tasks"], ["add_task"], set()),
        (None, [], set()),
    ],
)
def test_tools_of_a_request_narrow_those_of_the_project(
    chat: Chat,
    new_project: Callable[..., str],
    upstream: Upstream,
    project: list[str] | None,
    request_: list[str] | None,
    offered: set[str],
) -> None:
    assert chat(project_id=new_project(tools=project), options={"tools": request_}).status_code == 200
    assert {tool["function"]["name"] for tool in sent(upstream).get("tools", ())} == offered


def test_options_are_part_of_a_repeated_request(chat: Chat, upstream: Upstream) -> None:
    key = {"Idempotency-Key": "once"}
    first = chat(options={"temperature": 1, "history": 3}, headers=key)
    again = chat(options={"history": 3, "temperature": 1.0}, headers=key)  # the same, written in another way
    assert (first.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    for other in ({}, {"temperature": 1}, {"temperature": 0.5, "history": 3}):
        assert chat(options=other, headers=key).status_code == 422
    plain = {"Idempotency-Key": "plain"}
    chat(headers=plain)
    assert chat(options={}, headers=plain).headers["Idempotency-Replayed"] == "true"


def test_retry_of_a_failed_turn_uses_the_options_of_the_request(chat: Chat, upstream: Upstream) -> None:
    key, options = {"Idempotency-Key": "failing"}, {"temperature": 0.25, "response_format": JSON_SCHEMA}
    upstream.script = scripts.api_error(500)
    assert chat(options=options, headers=key).status_code == 502
    upstream.script = scripts.words(2)
    assert chat(options=options, headers=key).status_code == 200
    assert (sent(upstream)["temperature"], sent(upstream)["response_format"]) == (0.25, JSON_SCHEMA)


def test_refused_response_format_is_left_out_for_this_request_only(chat: Chat, upstream: Upstream) -> None:
    async def refuse_formats(exchange: Exchange) -> None:
        message = "Invalid schema for response_format 'cities': 'additionalProperties' is required."
        refused = "response_format" in (exchange.json() or {})
        await (scripts.api_error(400, message) if refused else scripts.words(2))(exchange)

    upstream.script = refuse_formats
    body = chat(options={"response_format": JSON_SCHEMA}).json
    assert body["message"]["metadata"] == {"dropped_options": ["response_format"]}
    upstream.script = scripts.words(2)
    body = chat(options={"response_format": {"type": "json_object"}}).json
    assert body["message"]["metadata"] == {}
    assert sent(upstream)["response_format"] == {"type": "json_object"}


def test_lower_bound_of_the_operator_counts_for_existing_projects(
    make_chat_app: Callable[..., Flask],
    chat: Chat,
    new_project: Callable[..., str],
    upstream: Upstream,
    user: LoggedInUser,
) -> None:
    project = new_project(history=20)
    conversation = chat("one", project_id=project).json["conversation"]["id"]
    client = make_chat_app(chat={"history_messages": 1}).test_client()
    body = {"message": "two", "conversation_id": conversation}
    assert client.post("/api/chat", json=body, headers=user.headers).status_code == 200
    assert len(sent(upstream)["messages"]) == 1  # the history begins with an answer, which is not sent alone
    refused = client.post("/api/chat", json={**body, "options": {"history": 2}}, headers=user.headers)
    assert refused.json["errors"] == {"options.history": ["At most 1 on this server."]}
