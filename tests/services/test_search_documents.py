"""Search documents: their content, bounds and robustness, and the sweep of stale ones."""

import random
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.ids import new_id
from app.services import search_index
from app.services.search_query import parse
from tests.factories import LoggedInUser, make_conversation
from tests.search_index import mark_all_indexed

Index = Callable[[UUID], bool]
Rows = Callable[..., list[Any]]


@pytest.fixture
def index(flask_app: Flask, user: LoggedInUser) -> Index:
    """Write the document of one of the user's conversations."""

    def run(conversation_id: UUID) -> bool:
        with flask_app.app_context():
            return search_index.index_conversation(user.id, conversation_id)

    return run


@pytest.fixture
def rows(engine: Engine) -> Rows:
    """Run a statement with `:u` style parameters and return its rows, if it has any."""

    def run(statement: str, **parameters: Any) -> list[Any]:
        with engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    return run


def append_messages(
    engine: Engine, account: LoggedInUser, conversation_id: UUID, contents: Iterable[str | None]
) -> None:
    """Append messages, of user and assistant in turns."""
    with engine.begin() as connection:
        for content in contents:
            connection.execute(
                text(
                    "WITH c AS (UPDATE conversations"
                    " SET next_position = next_position + 1, message_count = message_count + 1"
                    " WHERE user_id = :u AND id = :c RETURNING next_position - 1 AS p)"
                    " INSERT INTO messages (user_id, conversation_id, position, role, content)"
                    " SELECT :u, :c, p, CASE p % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, :content FROM c"
                ),
                {"u": account.id, "c": conversation_id, "content": content},
            )


def state(rows: Rows, conversation_id: UUID) -> Any:
    """Return the search row of a conversation."""
    [row] = rows(
        "SELECT document, indexed_title, indexed_position, rules FROM conversation_search WHERE conversation_id = :c",
        c=conversation_id,
    )
    return row


def documents(rows: Rows, conversation_id: UUID) -> list[Any]:
    """Return the documents of a conversation's messages, in order."""
    return rows(
        "SELECT first_position AS first, first_character AS start, last_position AS last, document,"
        " pg_column_size(document) AS size FROM search_documents WHERE conversation_id = :c ORDER BY 1, 2",
        c=conversation_id,
    )


def finds(rows: Rows, conversation_id: UUID, query: str) -> bool:
    """Return whether a document of the conversation matches the one clause of `query`."""
    [[clause]] = parse(query).alternatives
    return bool(
        rows(
            "SELECT FROM search_documents WHERE conversation_id = :c AND document @@ CAST(:q AS tsquery)",
            c=conversation_id,
            q=clause.tsquery,
        )
    )


def test_title_and_messages_have_their_terms(engine: Engine, user: LoggedInUser, index: Index, rows: Rows) -> None:
    conversation = make_conversation(engine, user, title="A Title")
    append_messages(engine, user, conversation, ["Hello there", "see app/search_me.py", "<b>bold</b>", None])
    assert index(conversation)
    written = state(rows, conversation)
    assert (written.document, written.indexed_title, written.indexed_position) == ("'a':1A 'title':2A", "A Title", 4)
    [document] = documents(rows, conversation)
    assert (document.first, document.start, document.last) == (1, 0, 4)
    terms = dict(term.split(":") for term in document.document.replace("'", "").split())
    assert terms == {
        **{"hello": "1", "there": "2", "see": "4", "app": "5", "search": "6", "me": "7", "py": "8"},
        **{"b": "10,12", "bold": "11"},
    }


def test_documents_are_written_only_where_something_has_changed(
    engine: Engine, user: LoggedInUser, index: Index, rows: Rows
) -> None:
    conversation = make_conversation(engine, user)
    append_messages(engine, user, conversation, ["one"])
    assert [index(conversation), index(conversation)] == [True, False]
    append_messages(engine, user, conversation, ["two"])
    assert [index(conversation), index(conversation)] == [True, False]
    assert [row.document for row in documents(rows, conversation)] == ["'one':1 'two':3"]
    rows("UPDATE conversations SET title = 'three' WHERE id = :c", c=conversation)
    assert [index(conversation), index(conversation)] == [True, False]
    assert state(rows, conversation).document == "'three':1A"
    rows("UPDATE conversations SET title = NULL WHERE id = :c", c=conversation)
    assert index(conversation)
    assert state(rows, conversation).document == ""
    assert [row.document for row in documents(rows, conversation)] == ["'one':1 'two':3"]


def test_deleted_or_foreign_conversation_is_not_indexed(
    engine: Engine, user: LoggedInUser, other_user: LoggedInUser, index: Index, rows: Rows
) -> None:
    foreign = make_conversation(engine, other_user, title="theirs")
    assert [index(new_id()), index(foreign)] == [False, False]
    assert rows("SELECT FROM conversation_search WHERE conversation_id = :c", c=foreign) == []
    own = make_conversation(engine, user)
    append_messages(engine, user, own, ["text"])
    assert index(own)
    rows("DELETE FROM conversations WHERE id = :c", c=own)
    assert rows("SELECT FROM conversation_search WHERE conversation_id = :c", c=own) == []
    assert documents(rows, own) == []


def test_late_writer_does_not_replace_a_newer_document(
    engine: Engine, user: LoggedInUser, index: Index, rows: Rows
) -> None:
    """A writer that has read an older state meets a document of more messages than it has read."""
    conversation = make_conversation(engine, user)
    append_messages(engine, user, conversation, ["one"])
    assert index(conversation)
    rows("UPDATE conversation_search SET indexed_position = 7 WHERE conversation_id = :c", c=conversation)
    rows("UPDATE search_documents SET last_position = 7, document = 'newer' WHERE conversation_id = :c", c=conversation)
    rows("UPDATE conversations SET next_position = 9 WHERE id = :c", c=conversation)
    assert index(conversation)
    assert [row.document for row in documents(rows, conversation)] == ["'newer'"]
    assert state(rows, conversation).indexed_position == 8
    rows("DELETE FROM conversations WHERE id = :c", c=conversation)  # no sweep could ever make it fresh


def test_documents_of_other_rules_are_written_again(
    engine: Engine, user: LoggedInUser, index: Index, rows: Rows
) -> None:
    conversation = make_conversation(engine, user, title="t")
    append_messages(engine, user, conversation, ["one"])
    assert index(conversation)
    rows("UPDATE conversation_search SET rules = 0 WHERE conversation_id = :c", c=conversation)
    rows(
        "UPDATE search_documents SET first_position = 2, last_position = 3, document = 'old'"
        " WHERE conversation_id = :c",
        c=conversation,
    )
    assert [index(conversation), index(conversation)] == [True, False]
    assert [row.document for row in documents(rows, conversation)] == ["'one':1"]


def test_300_long_messages_are_found_from_the_first_to_the_last(
    engine: Engine, user: LoggedInUser, index: Index, rows: Rows
) -> None:
    conversation = make_conversation(engine, user)
    rows(
        "INSERT INTO messages (user_id, conversation_id, position, role, content)"
        " SELECT :u, :c, n, 'user', rpad('m' || n || ' ', 10000, md5(n::text) || ' ')"
        " FROM generate_series(1, 300) AS n",
        u=user.id,
        c=conversation,
    )
    rows("UPDATE conversations SET next_position = 301, message_count = 300 WHERE id = :c", c=conversation)
    assert index(conversation)
    written = documents(rows, conversation)
    assert all(after.first in (before.last, before.last + 1) for before, after in pairwise(written))
    assert all(finds(rows, conversation, f'"m{n}"') for n in (1, 2, 150, 299, 300))
    assert state(rows, conversation).indexed_position == 300


def test_every_word_and_phrase_of_a_message_of_a_million_characters_is_found(
    engine: Engine, user: LoggedInUser, index: Index, rows: Rows
) -> None:
    words = [f"w{n}" for n in range(140_000)]
    content = " ".join(words)[:1_000_000].rsplit(" ", 1)[0]
    count = content.count(" ") + 1
    conversation = make_conversation(engine, user)
    append_messages(engine, user, conversation, ["question", content])
    assert index(conversation)
    written = documents(rows, conversation)
    assert max(row.size for row in written) < 100_000
    for n in (0, 1, 1_999, 2_000, 2_001, count // 2, count - 2):
        assert finds(rows, conversation, f'"w{n} w{n + 1}"'), n
    seams = [row.start for row in written if row.first == 2]
    assert all(content[start - 1] == " " for start in seams[1:])


def _binary() -> str:
    """Return a million characters from all of Unicode."""
    blocks = ((1, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF))
    dice = random.Random(5)
    return "".join(chr(dice.randint(*dice.choice(blocks))) for _ in range(1_000_000))


@pytest.mark.parametrize(
    "make",
    [
        lambda: "".join(f"{n:x}é " for n in range(10**5, 10**5 + 150_000))[:990_000],
        lambda: _binary()[:990_000],
        lambda: "a_" * 490_000,
        lambda: "x" * 900_000,
        lambda: "\x01\x02\x7f " * 200_000,
        lambda: "<" * 500_000 + ">" * 400_000,
        lambda: "😀" * 300_000,
        lambda: "机器学习" * 100_000,
        lambda: "aA1" * 300_000,
        lambda: "e" + "\u0301" * 900_000,
        lambda: "'\\" * 400_000,
    ],
)
def test_words_before_and_after_any_text_are_found(
    engine: Engine, user: LoggedInUser, index: Index, rows: Rows, make: Callable[[], str]
) -> None:
    conversation = make_conversation(engine, user, title="title")
    append_messages(engine, user, conversation, ["question", f"needle {make()} thread"])
    assert index(conversation)
    assert finds(rows, conversation, "needle")
    assert finds(rows, conversation, '"thread"')


def test_the_sweep_writes_what_is_stale_and_nothing_else(
    flask_app: Flask, engine: Engine, user: LoggedInUser, rows: Rows
) -> None:
    conversations = [make_conversation(engine, user, title=str(n)) for n in range(7)]
    with flask_app.app_context():
        mark_all_indexed(engine)
        append_messages(engine, user, conversations[0], ["lost on the way"])
        rows("UPDATE conversations SET title = 'renamed' WHERE id = :c", c=conversations[1])
        new = make_conversation(engine, user)
        swept = search_index.index_stale()
        again = search_index.index_stale()
    assert (swept.written, swept.failed, swept.complete) == (3, 0, True)
    assert (again.written, again.complete) == (0, True)
    [(total,)] = rows("SELECT count(*) FROM conversations")
    assert again.examined == total
    for conversation, position, title in ((conversations[0], 1, "0"), (conversations[1], 0, "renamed"), (new, 0, None)):
        found = state(rows, conversation)
        assert (found.indexed_position, found.indexed_title) == (position, title)


def test_a_sweep_ends_at_its_limit_and_the_next_goes_on(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    mark_all_indexed(engine)
    with flask_app.app_context():
        for n in range(5):
            make_conversation(engine, user, title=str(n))
        reports = [search_index.index_stale(limit=2) for _ in range(4)]
        assert [(report.written, report.complete) for report in reports] == [
            (2, False),
            (2, False),
            (1, True),
            (0, True),
        ]
        assert search_index.index_stale(seconds=0) == search_index.SweepReport()


def test_a_sweep_walks_over_many_batches(
    flask_app: Flask, engine: Engine, user: LoggedInUser, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "_BATCH", 3)
    mark_all_indexed(engine)
    conversations = {make_conversation(engine, user) for _ in range(20)}
    with flask_app.app_context():
        assert search_index.index_stale(limit=10**9).complete
    written = rows("SELECT conversation_id FROM conversation_search WHERE user_id = :u", u=user.id)
    assert {row.conversation_id for row in written} == conversations


def test_one_that_cannot_be_written_does_not_stop_the_sweep(
    flask_app: Flask, engine: Engine, user: LoggedInUser, rows: Rows
) -> None:
    """Made to fail by a constraint of the database's own, which only this test's rows meet."""
    mark_all_indexed(engine)
    bad, good = make_conversation(engine, user, title="unwritable"), make_conversation(engine, user, title="fine")
    rows("ALTER TABLE conversation_search ADD CONSTRAINT for_a_test CHECK (indexed_title <> 'unwritable') NOT VALID")
    try:
        with flask_app.app_context():
            report = search_index.index_stale(limit=10**9)
    finally:
        rows("ALTER TABLE conversation_search DROP CONSTRAINT for_a_test")
    assert (report.failed, report.complete) == (1, True)
    assert state(rows, good).indexed_title == "fine"
    with flask_app.app_context():
        assert search_index.index_stale().failed == 0
    assert state(rows, bad).indexed_title == "unwritable"
