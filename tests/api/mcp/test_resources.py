"""Conversations as resources."""

from base64 import b64encode
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine

from app.api.mcp import resources
from app.ids import new_id
from tests.api.conversation_files import EVERYTHING, StoreConversation
from tests.api.mcp.messages import McpCaller, error_of
from tests.bundling import bundle_conversation
from tests.factories import LoggedInUser, make_conversation

INVALID_PARAMS, RESOURCE_NOT_FOUND = -32602, -32002


def uri_of(conversation_id: UUID, after: int | None = None) -> str:
    return f"parley://conversations/{conversation_id}" + ("" if after is None else f"?after={after}")


def numbered(count: int, characters: int = 10) -> list[dict[str, Any]]:
    return [
        {"role": "assistant" if number % 2 else "user", "content": f"Message {number}. {'x' * characters}"}
        for number in range(count)
    ]


def read(caller: McpCaller, uri: str) -> str:
    [contents] = caller.result("resources/read", {"uri": uri})["contents"]
    assert (contents["uri"], contents["mimeType"]) == (uri, "text/markdown")
    return str(contents["text"])


def test_list_has_own_active_conversations_newest_first(
    either: McpCaller, store_conversation: StoreConversation, other_user: LoggedInUser
) -> None:
    older = store_conversation(numbered(2), title="Older")
    newer = store_conversation(numbered(1))
    store_conversation(numbered(1), status="archived")
    store_conversation(numbered(1), other_user)
    listed = either.result("resources/list")["resources"]
    assert [item["uri"] for item in listed] == [uri_of(newer), uri_of(older)]
    assert (listed[1]["title"], listed[1]["mimeType"]) == ("Older", "text/markdown")
    assert listed[0]["name"]


def test_pages_of_list_have_every_conversation_once(
    either: McpCaller, engine: Engine, user: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "PAGE", 3)
    expected = {uri_of(make_conversation(engine, user)) for _ in range(7)}
    seen, cursor, sizes = [], None, []
    while True:
        page = either.result("resources/list", {"cursor": cursor} if cursor else {})
        seen += [item["uri"] for item in page["resources"]]
        sizes.append(len(page["resources"]))
        cursor = page.get("nextCursor")
        if cursor is None:
            break
    assert (sizes, set(seen), len(seen)) == ([3, 3, 1], expected, 7)


def test_template_names_form_of_uris(either: McpCaller) -> None:
    [template] = either.result("resources/templates/list")["resourceTemplates"]
    assert template["uriTemplate"] == "parley://conversations/{conversation_id}{?after}"


def test_lists_and_reads_have_caching_hints_in_current_revision_only(
    caller: McpCaller, earlier: McpCaller, store_conversation: StoreConversation
) -> None:
    uri = uri_of(store_conversation(numbered(1)))
    for method, params in (("resources/list", {}), ("resources/templates/list", {}), ("resources/read", {"uri": uri})):
        result = caller.result(method, params)
        assert (result["cacheScope"], result["resultType"]) == ("private", "complete")
        assert result["ttlMs"] >= 0
        assert {"cacheScope", "resultType", "ttlMs"} & set(earlier.result(method, params)) == set()


def test_read_returns_messages_of_every_kind(either: McpCaller, store_conversation: StoreConversation) -> None:
    text = read(either, uri_of(store_conversation(EVERYTHING, title="All *kinds*")))
    assert text.startswith("# All \\*kinds\\*\n")
    assert text.count("\n## ") == len(EVERYTHING)
    assert "Calls a tool:" in text
    assert text.endswith("End of the conversation.\n")


def test_parts_of_long_conversation_have_every_message_once(
    caller: McpCaller, store_conversation: StoreConversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "MAX_MESSAGES", 4)
    uri: str | None = uri_of(store_conversation(numbered(10)))
    positions: list[int] = []
    while uri:
        text = read(caller, uri)
        positions += [int(line.split(".")[0][3:]) for line in text.splitlines() if line.startswith("## ")]
        uri = text.rpartition("More messages: ")[2].strip() if "More messages: " in text else None
    assert positions == list(range(1, 11))


def test_part_ends_before_too_many_characters(
    caller: McpCaller, store_conversation: StoreConversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "MAX_CHARACTERS", 1000)
    conversation = store_conversation(numbered(4, characters=600))
    text = read(caller, uri_of(conversation))
    assert text.count("\n## ") == 1
    assert text.endswith(f"More messages: {uri_of(conversation, 1)}\n")
    assert read(caller, uri_of(conversation, 3)).endswith("End of the conversation.\n")


def test_message_larger_than_a_part_is_read_whole(
    caller: McpCaller, store_conversation: StoreConversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "MAX_CHARACTERS", 1000)
    text = read(caller, uri_of(store_conversation(numbered(1, characters=5000))))
    assert "x" * 5000 in text


def test_empty_conversation_and_end_can_be_read(
    caller: McpCaller, engine: Engine, user: LoggedInUser, store_conversation: StoreConversation
) -> None:
    assert "0 messages" in read(caller, uri_of(make_conversation(engine, user)))
    assert read(caller, uri_of(store_conversation(numbered(2)), 2)).endswith("End of the conversation.\n")


@pytest.mark.parametrize(
    "uri",
    [
        "parley://conversations/01890a5d-ac96-774b-bcce-b302099a8057",
        "parley://conversations/",
        "parley://conversations/------------------------------------",
        "parley://conversations/01890a5d-ac96-774b-bcce-b302099a8057?after=99999999999",
        "parley://conversations/01890a5d-ac96-774b-bcce-b302099a8057?after=9999999999",
        "parley://conversations/01890a5d-ac96-774b-bcce-b302099a8057?after=-1",
        "parley://conversations/01890a5d-ac96-774b-bcce-b302099a8057\n",
        "PARLEY://conversations/01890a5d-ac96-774b-bcce-b302099a8057",
        "file:///etc/passwd",
        "http://127.0.0.1/",
        "",
        "x" * 5000,
    ],
)
def test_unknown_resource_is_reported_with_its_uri(caller: McpCaller, earlier: McpCaller, uri: str) -> None:
    headers = {"Mcp_Name": f"=?base64?{b64encode(uri.encode()).decode()}?="}
    response = caller.send("resources/read", {"uri": uri}, **headers)
    assert error_of(response)[:2] == (400, INVALID_PARAMS)
    assert response.json["error"]["data"] == {"uri": uri}
    assert error_of(earlier.send("resources/read", {"uri": uri}))[:2] == (200, RESOURCE_NOT_FOUND)


def test_conversation_of_another_user_is_like_a_missing_one(
    either: McpCaller, store_conversation: StoreConversation, other_user: LoggedInUser
) -> None:
    theirs = either.send("resources/read", {"uri": uri_of(store_conversation(numbered(1), other_user))})
    missing = either.send("resources/read", {"uri": uri_of(new_id())})
    assert error_of(theirs) == error_of(missing)


def test_bundled_conversation_is_read_like_a_live_one(
    caller: McpCaller, store_conversation: StoreConversation, flask_app: Flask, user: LoggedInUser
) -> None:
    conversation = store_conversation(EVERYTHING)
    live = [read(caller, uri_of(conversation, after)) for after in (None, 3)]
    with flask_app.app_context():
        bundle_conversation(user.id, conversation)
    assert [read(caller, uri_of(conversation, after)) for after in (None, 3)] == live
