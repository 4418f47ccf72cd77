"""Search of conversations."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, text

from app.services.search_index import index_conversation
from app.text import is_blank
from tests.api.rows import walk
from tests.factories import LoggedInUser, insert_user, make_conversation

URL = "/api/conversations"
Store = Callable[..., UUID]


@pytest.fixture
def store(flask_app: Flask, engine: Engine, user: LoggedInUser) -> Store:
    """Return a function that inserts and indexes a conversation; keyword arguments are its columns."""

    def insert(*contents: str, account: LoggedInUser = user, **columns: Any) -> UUID:
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

    return insert


def titles_found(client: FlaskClient, account: LoggedInUser, q: str, **query: Any) -> list[str]:
    """Return the titles of the search results, sorted."""
    response = client.get(URL, query_string={"q": q, "limit": 100, **query}, headers=account.headers)
    assert response.status_code == 200, response.json
    return sorted(item["title"] for item in response.json["items"])


def test_search_finds_title_and_messages_of_both_roles(client: FlaskClient, user: LoggedInUser, store: Store) -> None:
    store("How do I bake bread?", "With flour.", title="Kitchen")
    store("Where is Ulm?", "On the Danube.", title="Rivers")
    for q in ("kitchen", "KITCHEN", "bake", "flour", "bread flour kitchen"):
        assert titles_found(client, user, q) == ["Kitchen"]
    assert titles_found(client, user, "danube") == ["Rivers"]
    assert titles_found(client, user, "danube flour") == []


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
        ("r", ["1", "2", "3", "5"]),
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
        ("東", ["6"]),
        ("京", ["6"]),
        ("東京", ["6"]),
        ("😀", ["6"]),
        ("--green", ["2"]),
        ("red' OR 1=1 --", ["1", "2", "3", "5"]),
        ("red:*", ["1", "2", "3", "5"]),
        ("%", []),
        ("redder", []),
    ],
)
def test_query_syntax(client: FlaskClient, user: LoggedInUser, store: Store, q: str, expected: list[str]) -> None:
    store("red", title="1")
    store("green red", title="2")
    store("blue red", title="3")
    store("see app/errors.py, ada@example.org", "of covid-19", title="4")
    store("red red red", title="5")
    store("L'École de la СТРАНА", "東京 😀", title="6")
    assert titles_found(client, user, q) == expected


@pytest.mark.parametrize("q", ["???", '"', '""', "-", "- -", "😀", "…", "' \\ : * & | ! ( )", "<>"])
def test_query_without_words_finds_nothing(client: FlaskClient, user: LoggedInUser, store: Store, q: str) -> None:
    store("something", title="x")
    assert titles_found(client, user, q) == []


@pytest.mark.parametrize("q", ["", "   ", "\t\n", "\u200b", "\x01\x02", "a\0b", "\0", "a" * 201, "😀" * 201])
def test_invalid_query_is_400(client: FlaskClient, user: LoggedInUser, q: str) -> None:
    refused = client.get(URL, query_string={"q": q}, headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (400, "invalid_input")
    if "\0" not in q:
        assert list(refused.json["errors"]) == ["q"]


def test_query_of_200_characters_is_accepted(client: FlaskClient, user: LoggedInUser, store: Store) -> None:
    store("word " * 40, title="x")
    assert titles_found(client, user, ("word " * 40)) == ["x"]
    assert titles_found(client, user, "😀" * 200) == []


def test_search_finds_only_own_conversations(
    client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser, store: Store
) -> None:
    store("the secret word", title="mine")
    store("the secret word", title="theirs", account=other_user)
    for q in ("secret", "sec", '"secret word"', "-absent", "mine or theirs", str(user.id), str(other_user.id)):
        assert set(titles_found(client, user, q)) <= {"mine"}
        assert set(titles_found(client, other_user, q)) <= {"theirs"}
    assert titles_found(client, user, "secret") == ["mine"]
    assert titles_found(client, other_user, "-absent") == ["theirs"]


def test_search_with_other_filters(client: FlaskClient, engine: Engine, user: LoggedInUser, store: Store) -> None:
    project = client.post("/api/projects", json={"name": "Bot"}, headers=user.headers).json["id"]
    store("word", title="plain")
    store("word", title="in project", project_id=UUID(project))
    store("word", title="archived", status="archived")
    assert titles_found(client, user, "word") == ["in project", "plain"]
    assert titles_found(client, user, "word", status="archived") == ["archived"]
    assert titles_found(client, user, "word", project_id=project) == ["in project"]
    assert titles_found(client, user, "absent", project_id=project) == []


def test_pages_of_search_are_in_list_order(
    client: FlaskClient, engine: Engine, user: LoggedInUser, store: Store
) -> None:
    for n in range(7):
        store("word" if n % 2 else "other", title=str(n), created_at="2026-01-01Z", updated_at=f"2026-01-0{n + 1}Z")
    items = walk(client, user, URL, limit=1, q="word")
    assert [item["title"] for item in items] == ["5", "3", "1"]


def test_cursor_of_other_search_is_400(client: FlaskClient, user: LoggedInUser, store: Store) -> None:
    for _ in range(2):
        store("one two", title="x")
        store("one two", title="x", status="archived")
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


def test_deleted_conversation_is_not_found(client: FlaskClient, user: LoggedInUser, store: Store) -> None:
    conversation = store("word", title="x")
    assert titles_found(client, user, "word") == ["x"]
    assert client.delete(f"{URL}/{conversation}", headers=user.headers).status_code == 204
    assert titles_found(client, user, "word") == []


def test_search_reads_conversations_once_and_holds_no_connection(
    client: FlaskClient, engine: Engine, user: LoggedInUser, store: Store
) -> None:
    store("word", title="x")
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        titles_found(client, user, "word")
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len([statement for statement in seen if "conversations.search" in statement]) == 1
    assert len([statement for statement in seen if "search" in statement]) == 3
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of QueuePool


@pytest.fixture(scope="module")
def searcher(flask_app: Flask, engine: Engine) -> tuple[FlaskClient, LoggedInUser]:
    return flask_app.test_client(), insert_user(flask_app, engine)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    q=st.text(alphabet=st.sampled_from("ab1é字 \t\"'-_.:*&|!()<>\\@/%😀\u0301\u200bor"), max_size=40)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=210)
)
def test_arbitrary_query_is_answered(searcher: tuple[FlaskClient, LoggedInUser], q: str) -> None:
    client, account = searcher
    response = client.get(URL, query_string={"q": q}, headers=account.headers)
    assert response.status_code == (200 if not is_blank(q) and len(q) <= 200 and "\0" not in q else 400)


def hits(client: FlaskClient, account: LoggedInUser, q: str, **query: Any) -> list[Any]:
    """Return (title, position of the hit, the marked pieces of its snippet) of each conversation, in order."""
    response = client.get(URL, query_string={"q": q, "limit": 100, **query}, headers=account.headers)
    assert response.status_code == 200, response.json
    return [
        (
            item["title"],
            item["hit"] and item["hit"]["position"],
            [part["text"] for part in item["hit"]["snippet"] if part["match"]] if item["hit"] else None,
        )
        for item in response.json["items"]
    ]


def test_hit_names_message_and_marks_words(client: FlaskClient, user: LoggedInUser, store: Store) -> None:
    conversation = store("Where do quokkas live?", "Quokkas live on Rottnest Island.", "And wombats?", title="Animals")
    [item] = client.get(URL, query_string={"q": "rottnest quokkas"}, headers=user.headers).json["items"]
    assert item["hit"] == {
        "message_id": f"{conversation}.2",
        "position": 2,
        "snippet": [
            {"text": "Quokkas", "match": True},
            {"text": " live on ", "match": False},
            {"text": "Rottnest", "match": True},
            {"text": " Island.", "match": False},
        ],
    }
    assert hits(client, user, "wombat") == [("Animals", 3, ["wombats"])]
    assert hits(client, user, "animals") == [("Animals", None, None)]
    [listed] = client.get(URL, headers=user.headers).json["items"]
    assert listed["hit"] is None


def test_hit_marks_other_spellings_and_scripts(client: FlaskClient, user: LoggedInUser, store: Store) -> None:
    store("un cafe\u0301 noir", title="a")
    store("我们昨天讨论了机器学习模型", title="b")
    store("call getUserName() first", title="c")
    assert hits(client, user, "café") == [("a", 1, ["cafe\u0301"])]
    assert hits(client, user, "机器学习") == [("b", 1, ["机器学习"])]
    assert hits(client, user, "username") == []
    assert hits(client, user, "user name") == [("c", 1, ["UserName"])]


def test_snippet_of_long_message_is_short_and_marks_cuts(client: FlaskClient, user: LoggedInUser, store: Store) -> None:
    store("word " * 1500 + "needle" + " word" * 300, title="x")
    [item] = client.get(URL, query_string={"q": "needle"}, headers=user.headers).json["items"]
    text_of_snippet = "".join(part["text"] for part in item["hit"]["snippet"])
    assert len(text_of_snippet) == 202
    assert text_of_snippet.startswith("…")
    assert text_of_snippet.endswith("…")
    assert {"text": "needle", "match": True} in item["hit"]["snippet"]


def test_words_of_query_may_be_in_distant_messages(client: FlaskClient, user: LoggedInUser, store: Store) -> None:
    store("alpha", *["filler " * 900] * 6, "omega", title="x")
    assert titles_found(client, user, "alpha omega") == ["x"]
    assert titles_found(client, user, '"alpha filler"') == []
    assert titles_found(client, user, "alpha -omega") == []


def test_status_all_finds_every_status(client: FlaskClient, user: LoggedInUser, store: Store) -> None:
    store("word", title="active", created_at="2026-01-01Z", updated_at="2026-01-02Z")
    store("word", title="archived", status="archived", created_at="2026-01-01Z", updated_at="2026-01-03Z")
    assert [title for title, *_ in hits(client, user, "word", status="all")] == ["archived", "active"]
    assert [item["title"] for item in walk(client, user, URL, limit=1, q="word", status="all")] == [
        "archived",
        "active",
    ]
    assert [item["title"] for item in walk(client, user, URL, limit=1, status="all")] == ["archived", "active"]


def test_relevance_lists_best_match_first(client: FlaskClient, user: LoggedInUser, store: Store) -> None:
    store("needle and much else " + "filler " * 50, title="once")
    store("needle needle needle", title="often")
    store("nothing", title="the needle itself")
    store("nothing", title="none")
    expected = ["the needle itself", "often", "once"]
    assert [title for title, *_ in hits(client, user, "needle", sort="relevance")] == expected
    assert [item["title"] for item in walk(client, user, URL, limit=1, q="needle", sort="relevance")] == expected


def test_relevance_without_query_is_400(client: FlaskClient, user: LoggedInUser) -> None:
    refused = client.get(URL, query_string={"sort": "relevance"}, headers=user.headers)
    assert (refused.status_code, list(refused.json["errors"])) == (400, ["sort"])
