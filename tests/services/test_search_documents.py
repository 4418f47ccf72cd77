"""What is written about a conversation: whole, bounded, never failing; and what the sweep finds stale."""

import random
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.models.columns import new_id
from app.services import search
from tests.factories import Account, make_conversation

Index = Callable[[UUID], bool]
Rows = Callable[..., list[Any]]


@pytest.fixture
def index(flask_app: Flask, user: Account) -> Index:
    """Write the document of one of the user's conversations."""

    def run(conversation_id: UUID) -> bool:
        with flask_app.app_context():
            return search.index_conversation(user.id, conversation_id)

    return run


@pytest.fixture
def rows(engine: Engine) -> Rows:
    """Run a statement with `:u` style parameters and return its rows, if it has any."""

    def run(statement: str, **parameters: Any) -> list[Any]:
        with engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    return run


def say(engine: Engine, account: Account, conversation_id: UUID, contents: Iterable[str | None]) -> None:
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


def document(rows: Rows, conversation_id: UUID) -> Any:
    [row] = rows(
        "SELECT document, indexed_title, indexed_position, length(document) AS words, pg_column_size(document) AS size"
        " FROM conversation_search WHERE conversation_id = :c",
        c=conversation_id,
    )
    return row


def test_a_document_has_the_words_of_title_and_messages(
    engine: Engine, user: Account, index: Index, rows: Rows
) -> None:
    conversation = make_conversation(engine, user, title="A Title")
    say(engine, user, conversation, ["Hello there", "see app/services/search_me.py", "<b>bold</b>", None])
    assert index(conversation)
    found = document(rows, conversation)
    words = dict(word.split(":") for word in found.document.replace("'", "").split())
    assert set(words) == {
        *["a", "title", "hello", "there", "see", "app", "services", "search", "me", "py", "b", "bold"]
    }
    assert words["title"].endswith("A")
    assert words["hello"].endswith("B")
    assert (found.indexed_title, found.indexed_position) == ("A Title", 4)


def test_it_is_written_anew_only_where_something_has_changed(
    engine: Engine, user: Account, index: Index, rows: Rows
) -> None:
    conversation = make_conversation(engine, user)
    say(engine, user, conversation, ["one"])
    assert [index(conversation), index(conversation)] == [True, False]
    say(engine, user, conversation, ["two"])
    assert [index(conversation), index(conversation)] == [True, False]
    assert document(rows, conversation).document == "'one':2B 'two':1B"
    rows("UPDATE conversations SET title = 'three' WHERE id = :c", c=conversation)
    assert [index(conversation), index(conversation)] == [True, False]
    rows("UPDATE conversations SET title = NULL WHERE id = :c", c=conversation)
    assert index(conversation)
    assert document(rows, conversation).document == "'one':2B 'two':1B"


def test_what_is_gone_or_somebody_elses_is_left_alone(
    engine: Engine, user: Account, other_user: Account, index: Index, rows: Rows
) -> None:
    foreign = make_conversation(engine, other_user, title="theirs")
    assert [index(new_id()), index(foreign)] == [False, False]
    assert rows("SELECT FROM conversation_search WHERE conversation_id = :c", c=foreign) == []
    own = make_conversation(engine, user)
    assert index(own)
    rows("DELETE FROM conversations WHERE id = :c", c=own)
    assert rows("SELECT FROM conversation_search WHERE conversation_id = :c", c=own) == []


def test_a_late_writer_does_not_undo_a_newer_document(engine: Engine, user: Account, index: Index, rows: Rows) -> None:
    """One that has read an older state: it finds a document that says more than it can."""
    conversation = make_conversation(engine, user)
    say(engine, user, conversation, ["one"])
    assert index(conversation)
    rows(
        "UPDATE conversation_search SET indexed_position = 7, document = 'newer' WHERE conversation_id = :c",
        c=conversation,
    )
    rows("UPDATE conversations SET title = 'older' WHERE id = :c", c=conversation)
    assert not index(conversation)
    assert document(rows, conversation).document == "'newer'"
    rows("DELETE FROM conversations WHERE id = :c", c=conversation)  # no sweep could ever make it fresh


def test_a_bundled_conversation_keeps_its_words_and_takes_a_new_title(
    engine: Engine, user: Account, index: Index, rows: Rows
) -> None:
    conversation = make_conversation(engine, user, title="before")
    say(engine, user, conversation, ["kept words"])
    assert index(conversation)
    rows("UPDATE conversations SET storage = 'bundled', title = 'after' WHERE id = :c", c=conversation)
    rows("DELETE FROM messages WHERE conversation_id = :c", c=conversation)
    assert [index(conversation), index(conversation)] == [True, False]
    assert document(rows, conversation).document == "'after':3A 'kept':1B 'words':2B"
    unseen = make_conversation(engine, user, title="alone", storage="bundled", next_position=5, message_count=4)
    assert [index(unseen), index(unseen)] == [True, False]


def test_300_long_messages_are_cut_at_the_oldest(engine: Engine, user: Account, index: Index, rows: Rows) -> None:
    """3,000,000 characters: the newest 500,000 are in it, the older ones are not."""
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
    written = document(rows, conversation)
    numbers = sorted(int(word.split(":")[0][2:-1]) for word in written.document.split() if word.startswith("'m"))
    assert numbers == list(range(251, 301))
    assert written.indexed_position == 300


def _binary() -> str:
    """A million characters from all of Unicode."""
    ranges = ((1, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF))
    dice = random.Random(5)
    return "".join(chr(dice.randint(*dice.choice(ranges))) for _ in range(1_000_000))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: "needle " + "".join(f"{n:x}é " for n in range(10**5, 10**5 + 150_000))[:999_000], True),
        (lambda: "needle " + _binary()[:999_000], True),
        (lambda: "needle " + "a_" * 490_000, True),  # PostgreSQL's parser would need minutes for it
        (lambda: "needle " + "x" * 900_000, True),
        (lambda: "x" * 900_000, False),  # one word, too long to be kept
        (lambda: "\x01\x02\x7f " * 200_000, False),
        (lambda: "<" * 500_000 + ">" * 400_000, False),
        (lambda: "-" * 900_000, False),
        (lambda: "😀" * 900_000, False),
    ],
)
def test_no_text_is_too_strange(
    engine: Engine, user: Account, index: Index, rows: Rows, make: Callable[[], str], found: bool
) -> None:
    conversation = make_conversation(engine, user, title="title")
    say(engine, user, conversation, ["question", make()])
    assert index(conversation)
    [row] = rows(
        "SELECT document @@ 'title'::tsquery AS by_title, document @@ 'needle'::tsquery AS by_word"
        " FROM conversation_search WHERE conversation_id = :c",
        c=conversation,
    )
    assert (row.by_title, row.by_word) == (True, found)


def test_text_that_overflows_a_document_is_cut_further(
    engine: Engine, user: Account, index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    """Words of three letters that take three bytes each: 1.75 MB of the 1 MB that a tsvector can be."""
    letters = [chr(0x4E00 + n) for n in range(50)]
    conversation = make_conversation(engine, user)
    say(engine, user, conversation, ["question", " ".join(map("".join, product(letters, repeat=3)))])
    with caplog.at_level("INFO", "parley.search"):
        assert index(conversation)
    assert [vars(record)["characters"] for record in caplog.records] == [500_000]


def test_the_sweep_writes_what_is_stale_and_nothing_else(
    flask_app: Flask, engine: Engine, user: Account, rows: Rows
) -> None:
    made = [make_conversation(engine, user, title=str(n)) for n in range(7)]
    with flask_app.app_context():
        assert search.index_stale(limit=10**9).complete  # whatever other tests have left
        say(engine, user, made[0], ["lost on the way"])
        rows("UPDATE conversations SET title = 'renamed' WHERE id = :c", c=made[1])
        new = make_conversation(engine, user)
        swept = search.index_stale()
        again = search.index_stale()
    assert (swept.written, swept.failed, swept.complete) == (3, 0, True)
    assert (again.written, again.complete) == (0, True)
    [(conversations,)] = rows("SELECT count(*) FROM conversations")
    assert again.seen == conversations
    for conversation, position, title in ((made[0], 1, "0"), (made[1], 0, "renamed"), (new, 0, None)):
        found = document(rows, conversation)
        assert (found.indexed_position, found.indexed_title) == (position, title)


def test_a_sweep_ends_at_its_limit_and_the_next_goes_on(flask_app: Flask, engine: Engine, user: Account) -> None:
    with flask_app.app_context():
        assert search.index_stale(limit=10**9).complete
        for n in range(5):
            make_conversation(engine, user, title=str(n))
        reports = [search.index_stale(limit=2) for _ in range(4)]
        assert [(report.written, report.complete) for report in reports] == [
            (2, False),
            (2, False),
            (1, True),
            (0, True),
        ]
        assert search.index_stale(seconds=0) == search.SweepReport()


def test_a_sweep_walks_over_many_batches(
    flask_app: Flask, engine: Engine, user: Account, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_BATCH", 3)
    made = {make_conversation(engine, user) for _ in range(20)}
    with flask_app.app_context():
        assert search.index_stale(limit=10**9).complete
    written = rows("SELECT conversation_id FROM conversation_search WHERE user_id = :u", u=user.id)
    assert {row.conversation_id for row in written} == made


def test_one_that_cannot_be_written_does_not_stop_the_sweep(
    flask_app: Flask, engine: Engine, user: Account, rows: Rows
) -> None:
    """Made to fail by a constraint of the database's own, which only this test's rows meet."""
    bad, good = make_conversation(engine, user, title="unwritable"), make_conversation(engine, user, title="fine")
    rows("ALTER TABLE conversation_search ADD CONSTRAINT for_a_test CHECK (indexed_title <> 'unwritable') NOT VALID")
    try:
        with flask_app.app_context():
            report = search.index_stale(limit=10**9)
    finally:
        rows("ALTER TABLE conversation_search DROP CONSTRAINT for_a_test")
    assert (report.failed, report.complete) == (1, True)
    assert document(rows, good).indexed_title == "fine"
    with flask_app.app_context():
        assert search.index_stale().failed == 0
    assert document(rows, bad).indexed_title == "unwritable"
