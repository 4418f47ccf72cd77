"""How PostgreSQL finds conversations by words when there are many."""

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.models import ConversationStatus
from app.repositories import conversations, search
from tests.api.rows import add_conversations
from tests.factories import Account, make_account
from tests.repositories.test_conversations_plans import plan_of

pytestmark = pytest.mark.xdist_group("search plans")  # the rows are made once

OWN, OTHERS = 500, 9_500


@pytest.fixture(scope="module")
def much(flask_app: Flask, engine: Engine) -> Iterator[Account]:
    """One user among others: all conversations have the word "common", one in a hundred has the word "rare"."""
    account, other = make_account(flask_app, engine), make_account(flask_app, engine)
    for owner, count in ((account, OWN), (other, OTHERS)):
        add_conversations(engine, owner, count, updated_at="timestamptz '2026-02-01' + n * interval '1 second'")
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO conversation_search (user_id, conversation_id, document, indexed_position)"
                " SELECT user_id, id, to_tsvector('simple', 'common ' || md5(id::text)"
                " || CASE title::int % 100 WHEN 0 THEN ' rare' ELSE '' END), 0"
                " FROM conversations WHERE user_id IN (:a, :b)"
            ),
            {"a": account.id, "b": other.id},
        )
    with engine.begin() as connection:
        connection.execute(text("ANALYZE conversations, conversation_search"))
    yield account
    with engine.begin() as connection:  # ten thousand stale conversations are much for the tests that sweep
        connection.execute(text("DELETE FROM users WHERE id IN (:a, :b)"), {"a": account.id, "b": other.id})


@pytest.mark.parametrize(
    ("q", "index"),
    [
        ("rare", "ix_conversation_search_document"),
        ("common rare", "ix_conversation_search_document"),
        ("rar", "ix_conversation_search_document"),
        # What nearly every conversation has is met soonest on the way down the list itself.
        ('"common"', "ix_conversations_listing"),
    ],
)
def test_words_are_found_by_an_index(engine: Engine, much: Account, q: str, index: str) -> None:
    plan = plan_of(
        engine,
        lambda session: conversations.page(
            session,
            much.id,
            status=ConversationStatus.ACTIVE,
            project_id=None,
            found=search.matching(much.id, search.words_of(q)),
            after=None,
            limit=21,
        ),
    )
    assert index in {node.get("Index Name") for node in plan}
    assert not [node for node in plan if "Seq Scan" in node["Node Type"]]


def test_the_sweep_reads_both_primary_keys(engine: Engine, much: Account) -> None:
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(
            f"EXPLAIN {search.STALE.sql}", {"user_id": much.id, "conversation_id": much.id, "batch": 100}
        ).scalars()
        text_of_plan = "\n".join(plan)
    assert "pk_conversations" in text_of_plan
    assert "pk_conversation_search" in text_of_plan
    assert "Seq Scan" not in text_of_plan
