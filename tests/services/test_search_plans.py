"""Query plans of searches among many conversations."""

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.enums import ConversationStatus
from app.repositories import conversations, search
from app.services.search_query import parse
from tests.api.rows import add_conversations
from tests.factories import LoggedInUser, insert_user
from tests.repositories.test_conversations_plans import plan_of

pytestmark = pytest.mark.xdist_group("search plans")  # the rows are made once

OWN, OTHERS = 500, 9_500


@pytest.fixture(scope="module")
def much(flask_app: Flask, engine: Engine) -> Iterator[LoggedInUser]:
    """One user among others: all conversations have the word "common", one in a hundred has the word "rare"."""
    account, other = insert_user(flask_app, engine), insert_user(flask_app, engine)
    for owner, count in ((account, OWN), (other, OTHERS)):
        add_conversations(engine, owner, count, updated_at="timestamptz '2026-02-01' + n * interval '1 second'")
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO search_documents (user_id, conversation_id, first_position, first_character,"
                " last_position, document)"
                " SELECT user_id, id, 1, 0, 1, to_tsvector('simple', 'common ' || md5(id::text)"
                " || CASE title::int % 100 WHEN 0 THEN ' rare' ELSE '' END)"
                " FROM conversations WHERE user_id IN (:a, :b)"
            ),
            {"a": account.id, "b": other.id},
        )
        connection.execute(
            text(
                "INSERT INTO conversation_search (user_id, conversation_id, document, indexed_position)"
                " SELECT user_id, id, to_tsvector('simple', title), 0 FROM conversations WHERE user_id IN (:a, :b)"
            ),
            {"a": account.id, "b": other.id},
        )
    with engine.begin() as connection:
        connection.execute(text("ANALYZE conversations, conversation_search, search_documents"))
    yield account
    with engine.begin() as connection:  # ten thousand stale conversations are much for the tests that sweep
        connection.execute(text("DELETE FROM users WHERE id IN (:a, :b)"), {"a": account.id, "b": other.id})


@pytest.mark.parametrize("q", ["rare", "common rare", "rar", "rare -absent"])
def test_words_are_found_by_an_index(engine: Engine, much: LoggedInUser, q: str) -> None:
    query = parse(q)
    plan = plan_of(
        engine,
        lambda session: conversations.found_page(
            session,
            much.id,
            status=ConversationStatus.ACTIVE,
            project_id=None,
            matching=search.matching(
                much.id, [[(clause.tsquery, clause.excluded) for clause in clauses] for clauses in query.alternatives]
            ),
            rank=None,
            after=None,
            limit=21,
        ),
    )
    assert "ix_search_documents_document" in {node.get("Index Name") for node in plan}
    assert not [node for node in plan if "Seq Scan" in node["Node Type"]]


def test_the_sweep_reads_both_primary_keys(engine: Engine, much: LoggedInUser) -> None:
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(
            f"EXPLAIN {search.STALE.sql}", {"user_id": much.id, "conversation_id": much.id, "batch": 100}
        ).scalars()
        text_of_plan = "\n".join(plan)
    assert "pk_conversations" in text_of_plan
    assert "pk_conversation_search" in text_of_plan
    assert "Seq Scan" not in text_of_plan
