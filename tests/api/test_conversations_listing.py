"""The list of conversations: its order, its filters, its pages."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, text

from app.api.schemas.messages import MESSAGES
from tests.api.rows import add_conversations, walk
from tests.api.test_pagination import FORGED
from tests.factories import Account, make_conversation

URL = "/api/conversations"


def test_the_newest_message_comes_first(client: FlaskClient, engine: Engine, user: Account) -> None:
    add_conversations(engine, user, 5, updated_at="timestamptz '2026-02-01' + n * interval '1 microsecond'")
    assert [item["title"] for item in walk(client, user, URL, limit=2)] == ["5", "4", "3", "2", "1"]


@pytest.mark.parametrize("limit", [7, 100])
def test_equal_times_are_paged_exactly_once(client: FlaskClient, engine: Engine, user: Account, limit: int) -> None:
    add_conversations(engine, user, 250)
    ids = [item["id"] for item in walk(client, user, URL, limit=limit)]
    assert len(ids) == 250
    assert ids == sorted(set(ids))


def test_times_a_microsecond_apart_are_paged_exactly_once(client: FlaskClient, engine: Engine, user: Account) -> None:
    add_conversations(engine, user, 60, updated_at="timestamptz '2026-02-01' + (n / 3) * interval '1 microsecond'")
    items = walk(client, user, URL, limit=4)
    assert sorted(int(item["title"]) for item in items) == list(range(1, 61))
    assert [item["updated_at"] for item in items] == sorted((item["updated_at"] for item in items), reverse=True)


def test_a_message_between_two_pages_breaks_nothing(client: FlaskClient, engine: Engine, user: Account) -> None:
    """What moved to the top is not met again below; everything else comes exactly once, the cursor's own row gone."""
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


def test_status_and_project_choose(client: FlaskClient, engine: Engine, user: Account, other_user: Account) -> None:
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
    # Somebody else's project looks like one that does not exist: nothing of mine is in either.
    assert client.get(URL, query_string={"project_id": project}, headers=other_user.headers).json == nothing


def test_a_page_has_twenty_unless_told_otherwise(client: FlaskClient, engine: Engine, user: Account) -> None:
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
def test_wrong_queries_are_refused_by_name(client: FlaskClient, user: Account, name: str, value: str) -> None:
    refused = client.get(URL, query_string={name: value}, headers=user.headers)
    assert refused.status_code == 400
    if "\0" not in value:
        assert list(refused.json["errors"]) == [name]


@pytest.mark.parametrize("sent", FORGED.values(), ids=FORGED.keys())
def test_forged_cursors_are_refused(client: FlaskClient, user: Account, sent: str) -> None:
    refused = client.get(URL, query_string={"cursor": sent}, headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (400, "invalid_input")
    if "\0" not in sent:
        assert list(refused.json["errors"]) == ["cursor"]


def test_a_cursor_grants_nothing(client: FlaskClient, engine: Engine, user: Account, other_user: Account) -> None:
    add_conversations(engine, user, 3)
    make_conversation(
        engine, other_user, title="theirs", created_at="2025-01-01T00:00Z", updated_at="2025-01-01T00:00Z"
    )
    cursor = client.get(URL, query_string={"limit": 1}, headers=user.headers).json["next_cursor"]
    page = client.get(URL, query_string={"cursor": cursor}, headers=other_user.headers).json
    assert [item["title"] for item in page["items"]] == ["theirs"]
    assert client.get(URL, query_string={"cursor": MESSAGES.encode(1)}, headers=user.headers).status_code == 400


def test_a_page_is_read_in_one_statement(client: FlaskClient, engine: Engine, user: Account) -> None:
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
    assert engine.pool.checkedout() == 0
