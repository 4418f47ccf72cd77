"""The list of conversations: order, filters and pages."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, text

from app.api.schemas.messages import MESSAGES
from tests.api.rows import add_conversations, walk
from tests.api.test_pagination import FORGED
from tests.factories import LoggedInUser, make_conversation

URL = "/api/conversations"


def test_list_is_ordered_by_newest_message(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    add_conversations(engine, user, 5, updated_at="timestamptz '2026-02-01' + n * interval '1 microsecond'")
    assert [item["title"] for item in walk(client, user, URL, limit=2)] == ["5", "4", "3", "2", "1"]


@pytest.mark.parametrize("limit", [7, 100])
def test_pages_with_equal_times_have_each_item_once(
    client: FlaskClient, engine: Engine, user: LoggedInUser, limit: int
) -> None:
    add_conversations(engine, user, 250)
    ids = [item["id"] for item in walk(client, user, URL, limit=limit)]
    assert len(ids) == 250
    assert ids == sorted(set(ids))


def test_pages_with_times_one_microsecond_apart_have_each_item_once(
    client: FlaskClient, engine: Engine, user: LoggedInUser
) -> None:
    add_conversations(engine, user, 60, updated_at="timestamptz '2026-02-01' + (n / 3) * interval '1 microsecond'")
    items = walk(client, user, URL, limit=4)
    assert sorted(int(item["title"]) for item in items) == list(range(1, 61))
    assert [item["updated_at"] for item in items] == sorted((item["updated_at"] for item in items), reverse=True)


def test_new_message_between_pages_skips_and_repeats_nothing(
    client: FlaskClient, engine: Engine, user: LoggedInUser
) -> None:
    """The conversation with the new message is not on later pages; the others are on exactly one."""
    add_conversations(engine, user, 30, updated_at="timestamptz '2026-02-01' - n * interval '1 minute'")
    first = client.get(URL, query_string={"limit": 10}, headers=user.headers).json
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE conversations SET updated_at = now() WHERE user_id = :user_id AND title IN ('10', '15')"),
            {"user_id": user.id},
        )
        connection.execute(
            text("DELETE FROM conversations WHERE user_id = :user_id AND title = '9'"), {"user_id": user.id}
        )
    rest = walk(client, user, URL, limit=10, cursor=first["next_cursor"])
    assert [item["title"] for item in first["items"]] == [str(n) for n in range(1, 11)]
    assert [item["title"] for item in rest] == [str(n) for n in range(11, 31) if n != 15]


def test_filter_by_status_and_project(
    client: FlaskClient, engine: Engine, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    project = client.post("/api/projects", json={"name": "Bot"}, headers=user.headers).json["id"]
    add_conversations(engine, user, 3, project_id=f"uuid '{project}'")
    add_conversations(engine, user, 2, status="'archived'")
    add_conversations(engine, other_user, 4)
    titles = {
        query: [item["title"] for item in walk(client, user, URL, limit=2, **dict(query))]
        for query in [(), (("status", "archived"),), (("project_id", project),)]
    }
    assert {query: sorted(found) for query, found in titles.items()} == {
        (): ["1", "2", "3"],
        (("status", "archived"),): ["1", "2"],
        (("project_id", project),): ["1", "2", "3"],
    }
    nothing = {"items": [], "next_cursor": None}
    query = {"project_id": project, "status": "archived"}
    assert client.get(URL, query_string=query, headers=user.headers).json == nothing
    # Another user's project gives the same result as an unknown one.
    assert client.get(URL, query_string={"project_id": project}, headers=other_user.headers).json == nothing


def test_default_limit_is_twenty(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    add_conversations(engine, user, 101)
    sizes = [
        len(client.get(URL, query_string=query, headers=user.headers).json["items"])
        for query in ({}, {"limit": 1}, {"limit": 100})
    ]
    assert sizes == [20, 1, 100]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "-1"),
        ("limit", "101"),
        ("limit", str(2**63)),
        ("limit", "9" * 5000),
        ("limit", "1.5"),
        ("limit", "ten"),
        ("limit", ""),
        ("status", "deleted"),
        ("status", "ACTIVE"),
        ("status", ""),
        ("project_id", "1"),
        ("project_id", "x\0"),
        ("offset", "10"),
        ("user_id", "1"),
        ("after", "1"),
    ],
)
def test_invalid_query_is_400_with_field(client: FlaskClient, user: LoggedInUser, name: str, value: str) -> None:
    refused = client.get(URL, query_string={name: value}, headers=user.headers)
    assert refused.status_code == 400
    if "\0" not in value:
        assert list(refused.json["errors"]) == [name]


@pytest.mark.parametrize("sent", FORGED.values(), ids=FORGED.keys())
def test_forged_cursor_is_400(client: FlaskClient, user: LoggedInUser, sent: str) -> None:
    refused = client.get(URL, query_string={"cursor": sent}, headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (400, "invalid_input")
    if "\0" not in sent:
        assert list(refused.json["errors"]) == ["cursor"]


def test_cursor_of_other_user_grants_no_access(
    client: FlaskClient, engine: Engine, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    add_conversations(engine, user, 3)
    make_conversation(
        engine, other_user, title="theirs", created_at="2025-01-01T00:00Z", updated_at="2025-01-01T00:00Z"
    )
    cursor = client.get(URL, query_string={"limit": 1}, headers=user.headers).json["next_cursor"]
    page = client.get(URL, query_string={"cursor": cursor}, headers=other_user.headers).json
    assert [item["title"] for item in page["items"]] == ["theirs"]
    assert client.get(URL, query_string={"cursor": MESSAGES.encode(1)}, headers=user.headers).status_code == 400


def test_page_takes_one_statement(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    add_conversations(engine, user, 5)
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        client.get(URL, query_string={"limit": 2}, headers=user.headers)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    about_conversations = [statement for statement in seen if "FROM conversations" in statement]
    assert len(about_conversations) == 1
    assert "/* conversations.page" in about_conversations[0]
    assert "OFFSET" not in about_conversations[0]
    assert "count(" not in about_conversations[0]
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of QueuePool
