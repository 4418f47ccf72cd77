"""The to-do list: /api/tasks."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.ids import new_id
from app.services import todos
from app.services.todos import TodoLimits
from tests.api.rows import owned_rows, walk
from tests.factories import LoggedInUser

URL = "/api/tasks"
Create = Callable[..., dict[str, Any]]


@pytest.fixture
def create(client: FlaskClient, user: LoggedInUser) -> Create:
    """Return a function that creates a task of the user and returns it."""

    def create(title: str, **fields: Any) -> dict[str, Any]:
        made = client.post(URL, json={"title": title, **fields}, headers=user.headers)
        assert made.status_code == 201, made.json
        return dict(made.json)

    return create


def found(client: FlaskClient, account: LoggedInUser, **query: Any) -> list[str]:
    """Return the titles that a list contains, in its order."""
    response = client.get(URL, query_string={"limit": 100, **query}, headers=account.headers)
    assert response.status_code == 200, response.json
    return [item["title"] for item in response.json["items"]]


def test_create_get_change_and_delete(client: FlaskClient, user: LoggedInUser) -> None:
    body = {"title": "Buy groceries", "description": "Milk,\nbread"}
    made = client.post(URL, json=body, headers=user.headers)
    assert made.status_code == 201
    assert {name: made.json[name] for name in body} == body
    assert (made.json["completed"], made.json["completed_at"]) == (False, None)
    assert set(made.json) - set(body) == {"id", "completed", "completed_at", "created_at", "updated_at"}
    place = made.headers["Location"]
    assert place == f"{URL}/{made.json['id']}"
    assert client.get(place, headers=user.headers).json == made.json

    changed = client.patch(place, json={"title": "Buy flowers", "description": None}, headers=user.headers)
    assert (changed.status_code, changed.json["title"], changed.json["description"]) == (200, "Buy flowers", None)
    assert changed.json["updated_at"] > made.json["updated_at"]
    assert changed.json["created_at"] == made.json["created_at"]
    assert client.get(place, headers=user.headers).json == changed.json

    assert client.delete(place, headers=user.headers).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        gone = client.open(place, method=method, json={} if method == "PATCH" else None, headers=user.headers)
        assert (gone.status_code, gone.json["code"]) == (404, "not_found")
    assert client.post(f"{place}/complete", headers=user.headers).status_code == 404


def test_patch_keeps_other_fields(client: FlaskClient, engine: Engine, user: LoggedInUser, create: Create) -> None:
    place = f"{URL}/{create('Read', description='A book')['id']}"
    changed = client.patch(place, json={"title": "Write"}, headers=user.headers).json
    assert (changed["title"], changed["description"], changed["completed"]) == ("Write", "A book", False)
    before = owned_rows(engine, user)
    assert client.patch(place, json={}, headers=user.headers).json == changed
    assert owned_rows(engine, user) == before


def test_completed_task_is_opened_again(client: FlaskClient, user: LoggedInUser, create: Create) -> None:
    made = create("Sleep")
    place = f"{URL}/{made['id']}"
    completed = client.post(f"{place}/complete", headers=user.headers)
    assert (completed.status_code, completed.json["completed"]) == (200, True)
    assert completed.json["completed_at"] >= made["created_at"]
    assert completed.json["updated_at"] > made["updated_at"]
    assert client.post(f"{place}/complete", headers=user.headers).json == completed.json
    kept = client.patch(place, json={"completed": True}, headers=user.headers).json
    assert kept["completed_at"] == completed.json["completed_at"]

    opened = client.patch(place, json={"completed": False}, headers=user.headers).json
    assert (opened["completed"], opened["completed_at"]) == (False, None)
    again = client.patch(place, json={"completed": True}, headers=user.headers).json
    assert again["completed_at"] > completed.json["completed_at"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": " \u200b\n"}, "title"),
        ({"title": None}, "title"),
        ({"title": 1}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"description": "x" * 10_001}, "description"),
        ({"description": ["x"]}, "description"),
        ({"id": str(new_id())}, "id"),
        ({"user_id": str(new_id())}, "user_id"),
        ({"call_key": "x"}, "call_key"),
        ({"completed_at": "2026-01-01T00:00:00Z"}, "completed_at"),
    ],
)
def test_invalid_value_is_400_with_field(
    client: FlaskClient, engine: Engine, user: LoggedInUser, create: Create, change: dict[str, Any], field: str
) -> None:
    place = f"{URL}/{create('Read')['id']}"
    before = owned_rows(engine, user)
    for method, url, body in (("POST", URL, {"title": "Read"}), ("PATCH", place, {})):
        refused = client.open(url, method=method, json={**body, **change}, headers=user.headers)
        assert (refused.status_code, list(refused.json["errors"])) == (400, [field])
    assert owned_rows(engine, user) == before


@pytest.mark.parametrize("completed", [None, 1, 0, "true", "yes", []])
def test_completed_must_be_a_boolean(client: FlaskClient, user: LoggedInUser, create: Create, completed: Any) -> None:
    place = f"{URL}/{create('Read')['id']}"
    refused = client.patch(place, json={"completed": completed}, headers=user.headers)
    assert (refused.status_code, list(refused.json["errors"])) == (400, ["completed"])


@pytest.mark.parametrize("raw", [rb'{"title": "a\u0000"}', rb'{"title": "\ud800"}', b'{"title": "\xff"}', b"[]", b""])
def test_unreadable_or_unstorable_body_is_400(
    client: FlaskClient, engine: Engine, user: LoggedInUser, raw: bytes
) -> None:
    assert client.post(URL, data=raw, content_type="application/json", headers=user.headers).status_code == 400
    assert owned_rows(engine, user)["tasks"] == []


def test_longest_texts_are_stored_and_found(client: FlaskClient, user: LoggedInUser, create: Create) -> None:
    for word in ("\U00010348", "任", "a b "):
        made = create((word * 200)[:200], description=(word * 10_000)[:9_992] + " zzlast")
        assert client.get(f"{URL}/{made['id']}", headers=user.headers).json == made
    assert len(found(client, user, q="zzlast")) == 3


def test_list_is_newest_first_with_each_task_once(
    client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser, create: Create
) -> None:
    for n in range(23):
        create(str(n))
    client.post(URL, json={"title": "not mine"}, headers=other_user.headers)
    assert [item["title"] for item in walk(client, user, URL, limit=5)] == [str(n) for n in range(22, -1, -1)]


def test_completed_and_open_tasks_are_listed_apart(client: FlaskClient, user: LoggedInUser, create: Create) -> None:
    ids = [create(str(n))["id"] for n in range(9)]
    for task_id in ids[::2]:
        client.post(f"{URL}/{task_id}/complete", headers=user.headers)
    done = [item["title"] for item in walk(client, user, URL, limit=2, completed="true")]
    assert done == ["8", "6", "4", "2", "0"]
    assert [item["title"] for item in walk(client, user, URL, limit=2, completed="false")] == ["7", "5", "3", "1"]
    assert len(found(client, user)) == 9


@pytest.mark.parametrize(
    ("q", "titles"),
    [
        ("groceries", ["Buy groceries"]),
        ("GROC", ["Buy groceries"]),
        ("buy milk", ["Buy groceries"]),  # one word in the title, one in the description
        ('"buy groceries"', ["Buy groceries"]),
        ('"groceries milk"', []),  # no phrase across title and description
        ("cafe", ["Meet at the café"]),
        ("机器", ["学习机器学习模型"]),
        ("ทำงาน", ["วันนี้ทำงาน"]),
        ("εργασια", ["Εργασία"]),
        ("-groceries meet", ["Meet at the café"]),
        ("groceries or café", ["Meet at the café", "Buy groceries"]),
        ("errors.py", ["Fix app/errors.py"]),
        ("' OR 1=1 --", []),
        ("a & b | !c <-> :*", []),
        ("...", []),
        ("🥦", ["Eat 🥦"]),
    ],
)
def test_text_is_found_as_in_conversations(
    client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser, create: Create, q: str, titles: list[str]
) -> None:
    create("Buy groceries", description="Milk and bread")
    for title in ("Meet at the café", "学习机器学习模型", "วันนี้ทำงาน", "Εργασία", "Fix app/errors.py", "Eat 🥦"):
        create(title)
    client.post(URL, json={"title": "Buy groceries too"}, headers=other_user.headers)
    assert found(client, user, q=q) == titles


def test_search_finds_the_changed_text_at_once(client: FlaskClient, user: LoggedInUser, create: Create) -> None:
    place = f"{URL}/{create('Wash', description='the car')['id']}"
    client.patch(place, json={"title": "Polish"}, headers=user.headers)
    assert [found(client, user, q=q) for q in ("wash", "polish", "car")] == [[], ["Polish"], ["Polish"]]
    client.patch(place, json={"description": "the floor"}, headers=user.headers)
    assert [found(client, user, q=q) for q in ("car", "polish floor")] == [[], ["Polish"]]
    client.patch(place, json={"description": None}, headers=user.headers)
    assert [found(client, user, q=q) for q in ("floor", "polish")] == [[], ["Polish"]]
    client.patch(place, json={"completed": True}, headers=user.headers)
    assert found(client, user, q="polish", completed="true") == ["Polish"]
    assert found(client, user, q="polish", completed="false") == []


def test_cursor_of_other_filters_is_refused(client: FlaskClient, user: LoggedInUser, create: Create) -> None:
    for n in range(3):
        create(f"task {n}")
    cursor = client.get(URL, query_string={"limit": 1, "q": "task"}, headers=user.headers).json["next_cursor"]
    assert cursor
    for query in ({}, {"q": "tas"}, {"q": "task", "completed": "false"}):
        refused = client.get(URL, query_string={"cursor": cursor, **query}, headers=user.headers)
        assert (refused.status_code, list(refused.json["errors"])) == (400, ["cursor"])
    next_page = client.get(URL, query_string={"limit": 1, "q": "task", "cursor": cursor}, headers=user.headers)
    assert [item["title"] for item in next_page.json["items"]] == ["task 1"]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"cursor": "x"},
        {"completed": "yes"},
        {"completed": ""},
        {"q": " "},
        {"q": "x" * 201},
        {"status": "open"},
    ],
)
def test_invalid_query_is_400_with_field(client: FlaskClient, user: LoggedInUser, query: dict[str, str]) -> None:
    refused = client.get(URL, query_string=query, headers=user.headers)
    assert (refused.status_code, list(refused.json["errors"])) == (400, list(query))


def test_maximum_of_tasks_holds_for_concurrent_requests(
    make_chat_app: Callable[..., Flask], engine: Engine, user: LoggedInUser
) -> None:
    limited = make_chat_app(chat={"user_max_todos": 5})

    def send(n: int) -> int:
        body = {"title": str(n)}
        return limited.test_client().post(URL, json=body, headers=user.headers).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(threads.map(send, range(16)))
    assert statuses == [201] * 5 + [409] * 11
    assert len(owned_rows(engine, user)["tasks"]) == 5
    refused = limited.test_client().post(URL, json={"title": "x"}, headers=user.headers)
    assert (refused.json or {})["code"] == "conflict"
    assert "5 tasks" in (refused.json or {})["detail"]


def test_call_key_creates_one_task(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    def create(call_key: str, title: str = "Once") -> UUID:
        with flask_app.app_context():
            return todos.create(user.id, title=title, call_key=call_key, limits=TodoLimits(max_todos=2)).id

    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(create, ["first"] * 16))
    assert len(ids) == 1
    assert create("second") not in ids
    assert create("first", title="Another") in ids  # also at the maximum
    assert len(owned_rows(engine, user)["tasks"]) == 2


def test_call_keys_of_two_users_are_apart(flask_app: Flask, user: LoggedInUser, other_user: LoggedInUser) -> None:
    with flask_app.app_context():
        ids = {todos.create(each.id, title="Mine", call_key="same").id for each in (user, other_user)}
    assert len(ids) == 2


def test_sweep_rewrites_terms_of_older_rules(
    flask_app: Flask, client: FlaskClient, engine: Engine, user: LoggedInUser, create: Create
) -> None:
    made = create("Paint the fence", description="green")
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE tasks SET search_document = '', search_rules = 0 WHERE user_id = :u"), {"u": user.id}
        )
    assert found(client, user, q="fence") == []
    with flask_app.app_context():
        while todos.index_stale(limit=100):
            pass
    assert found(client, user, q="fence green") == ["Paint the fence"]
    assert client.get(f"{URL}/{made['id']}", headers=user.headers).json == made
