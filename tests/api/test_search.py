"""Conversations found by their words, each by its owner only."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, text

from app.services.search import index_conversation
from tests.api.rows import walk
from tests.factories import Account, make_account, make_conversation

URL = "/api/conversations"
Told = Callable[..., UUID]


@pytest.fixture
def told(flask_app: Flask, engine: Engine, user: Account) -> Told:
    """A function that makes a conversation of these messages, and its document; keyword arguments are columns."""

    def tell(*contents: str, account: Account = user, **columns: Any) -> UUID:
        count = len(contents)
        conversation = make_conversation(
            engine, account, **{"message_count": count, "next_position": count + 1, **columns}
        )
        with engine.begin() as connection:
            for position, content in enumerate(contents, 1):
                connection.execute(
                    text(
                        "INSERT INTO messages (user_id, conversation_id, position, role, content)"
                        " VALUES (:u, :c, :p, :role, :content)"
                    ),
                    {
                        "u": account.id,
                        "c": conversation,
                        "p": position,
                        "role": "user" if position % 2 else "assistant",
                        "content": content,
                    },
                )
        with flask_app.app_context():
            assert index_conversation(account.id, conversation)
        return conversation

    return tell


def found(client: FlaskClient, account: Account, q: str, **query: Any) -> list[str]:
    """The titles that are found, sorted."""
    response = client.get(URL, query_string={"q": q, "limit": 100, **query}, headers=account.headers)
    assert response.status_code == 200, response.json
    return sorted(item["title"] for item in response.json["items"])


def test_a_conversation_is_found_by_its_title_and_by_whoever_said_a_word(
    client: FlaskClient, user: Account, told: Told
) -> None:
    told("How do I bake bread?", "With flour.", title="Kitchen")
    told("Where is Ulm?", "On the Danube.", title="Rivers")
    for q in ("kitchen", "KITCHEN", "bake", "flour", "bread flour kitchen"):
        assert found(client, user, q) == ["Kitchen"]
    assert found(client, user, "danube") == ["Rivers"]
    assert found(client, user, "danube flour") == []


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("red", ["1", "2", "3", "5"]),
        ("red green", ["2"]),
        ("green or blue", ["2", "3"]),
        ("red -green", ["1", "3", "5"]),
        ("-green", ["1", "3", "4", "5", "6"]),
        ('"red green"', []),
        ('"green red"', ["2"]),
        ('red -"blue red"', ["1", "2", "5"]),
        ("gre", ["2"]),
        ("red gre", ["2"]),
        ("gre ", []),
        ('"gre"', []),
        ("r", []),
        ("errors", ["4"]),
        ("app/errors.py", ["4"]),
        ("app.err", ["4"]),
        ("ada@example.org", ["4"]),
        ("19", ["4"]),
        ("covid-19", ["4"]),
        ("école", ["6"]),
        ("ÉCOLE", ["6"]),
        ("страна", ["6"]),
        ("стр", ["6"]),
        ("東京", ["6"]),
        ("東", []),  # one character; and the words of such languages are not told apart
        ("red' OR 1=1 --", ["1", "2", "3", "5"]),
        ("red:*", ["1", "2", "3", "5"]),
        ("%", []),
        ("redder", []),
    ],
)
def test_what_is_asked_for_is_found(
    client: FlaskClient, user: Account, told: Told, q: str, expected: list[str]
) -> None:
    told("red", title="1")
    told("green red", title="2")
    told("blue red", title="3")
    told("see app/errors.py, ada@example.org", "of covid-19", title="4")
    told("red red red", title="5")
    told("L'École de la СТРАНА", "東京 😀", title="6")
    assert found(client, user, q) == expected


@pytest.mark.parametrize(
    "q", ["???", '"', '""', "-", "- -", "😀", "…", "\u200b", "' \\ : * & | ! ( )", "<>", "\x01\x02"]
)
def test_what_holds_no_word_finds_nothing(client: FlaskClient, user: Account, told: Told, q: str) -> None:
    told("something", title="x")
    assert found(client, user, q) == []


@pytest.mark.parametrize("q", ["", "   ", "\t\n", "a\0b", "\0", "a" * 201, "😀" * 201])
def test_what_is_no_search_is_refused(client: FlaskClient, user: Account, q: str) -> None:
    refused = client.get(URL, query_string={"q": q}, headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (400, "invalid_input")
    if "\0" not in q:
        assert list(refused.json["errors"]) == ["q"]


def test_200_characters_are_searched_for(client: FlaskClient, user: Account, told: Told) -> None:
    told("word " * 40, title="x")
    assert found(client, user, ("word " * 40)) == ["x"]
    assert found(client, user, "😀" * 200) == []


def test_nobody_finds_what_is_somebody_elses(
    client: FlaskClient, user: Account, other_user: Account, told: Told
) -> None:
    told("the secret word", title="mine")
    told("the secret word", title="theirs", account=other_user)
    for q in ("secret", "sec", '"secret word"', "-absent", "mine or theirs", str(user.id), str(other_user.id)):
        assert set(found(client, user, q)) <= {"mine"}
        assert set(found(client, other_user, q)) <= {"theirs"}
    assert found(client, user, "secret") == ["mine"]
    assert found(client, other_user, "-absent") == ["theirs"]


def test_search_goes_with_the_other_filters(client: FlaskClient, engine: Engine, user: Account, told: Told) -> None:
    project = client.post("/api/projects", json={"name": "Bot"}, headers=user.headers).json["id"]
    told("word", title="plain")
    told("word", title="in project", project_id=UUID(project))
    told("word", title="archived", status="archived")
    assert found(client, user, "word") == ["in project", "plain"]
    assert found(client, user, "word", status="archived") == ["archived"]
    assert found(client, user, "word", project_id=project) == ["in project"]
    assert found(client, user, "absent", project_id=project) == []


def test_pages_of_a_search_follow_each_other_in_the_lists_own_order(
    client: FlaskClient, engine: Engine, user: Account, told: Told
) -> None:
    for n in range(7):
        told("word" if n % 2 else "other", title=str(n), created_at="2026-01-01Z", updated_at=f"2026-01-0{n + 1}Z")
    items = walk(client, user, URL, limit=1, q="word")
    assert [item["title"] for item in items] == ["5", "3", "1"]


def test_a_cursor_of_another_search_is_refused(client: FlaskClient, user: Account, told: Told) -> None:
    for _ in range(2):
        told("one two", title="x")
        told("one two", title="x", status="archived")
    searches: list[dict[str, Any]] = [
        {},
        {"q": "one"},
        {"q": "two"},
        {"status": "archived"},
        {"q": "one", "status": "archived"},
    ]
    cursors = [
        client.get(URL, query_string={"limit": 1, **query}, headers=user.headers).json["next_cursor"]
        for query in searches
    ]
    for query in searches:
        answers = [
            client.get(URL, query_string={"limit": 1, "cursor": cursor, **query}, headers=user.headers)
            for cursor in cursors
        ]
        fitting = searches.index(query)
        assert [answer.status_code for answer in answers] == [200 if n == fitting else 400 for n in range(5)]
        assert all(list(answer.json["errors"]) == ["cursor"] for answer in answers if answer.status_code == 400)


def test_a_deleted_conversation_is_not_found(client: FlaskClient, user: Account, told: Told) -> None:
    conversation = told("word", title="x")
    assert found(client, user, "word") == ["x"]
    assert client.delete(f"{URL}/{conversation}", headers=user.headers).status_code == 204
    assert found(client, user, "word") == []


def test_a_search_is_one_statement_and_keeps_no_connection(
    client: FlaskClient, engine: Engine, user: Account, told: Told
) -> None:
    told("word", title="x")
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        found(client, user, "word")
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len([statement for statement in seen if "conversations" in statement]) == 1
    assert engine.pool.checkedout() == 0


@pytest.fixture(scope="module")
def searcher(flask_app: Flask, engine: Engine) -> tuple[FlaskClient, Account]:
    return flask_app.test_client(), make_account(flask_app, engine)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    q=st.text(alphabet=st.sampled_from("ab1é字 \t\"'-_.:*&|!()<>\\@/%😀\u0301\u200bor"), max_size=40)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=210)
)
def test_whatever_is_asked_is_answered(searcher: tuple[FlaskClient, Account], q: str) -> None:
    client, account = searcher
    response = client.get(URL, query_string={"q": q}, headers=account.headers)
    assert response.status_code == (200 if q.strip() and len(q) <= 200 and "\0" not in q else 400)
