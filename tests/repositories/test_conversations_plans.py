"""Query plans of the lists with many rows: no Sort, no Seq Scan."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from app.enums import ConversationStatus
from app.repositories import conversations, messages, projects, todos
from tests.api.rows import add_conversations, add_messages
from tests.factories import LoggedInUser, insert_user, make_conversation

pytestmark = pytest.mark.xdist_group("plans")  # one worker, because the rows are inserted once

ROWS = 5_000
MIDDLE = datetime(2026, 2, 1, 1, tzinfo=UTC)
ID = UUID(int=2**127)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the plan's nodes, parents first."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def plan_of(engine: Engine, run: Callable[[Session], object]) -> list[dict[str, Any]]:
    """Return the plan's nodes of the only statement that `run` sends."""
    statements: list[tuple[str, Any]] = []

    def record(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    with Session(engine) as session:
        event.listen(engine, "before_cursor_execute", record)
        try:
            run(session)
        finally:
            event.remove(engine, "before_cursor_execute", record)
        ((statement, parameters),) = statements
        explained = session.connection().exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    (root,) = explained if isinstance(explained, list) else json.loads(explained)
    return list(nodes(root["Plan"]))


def kinds(plan: list[dict[str, Any]]) -> set[str]:
    return {node["Node Type"] for node in plan}


@pytest.fixture(scope="module")
def large_user(flask_app: Flask, engine: Engine) -> Iterator[LoggedInUser]:
    """Yield a user with many rows in each table; a second user has as many."""
    account, other = insert_user(flask_app, engine), insert_user(flask_app, engine)
    for owner in (account, other):
        add_conversations(engine, owner, ROWS, updated_at="timestamptz '2026-02-01' + n * interval '1 second'")
        make_conversation(engine, owner, id=ID)
        add_messages(engine, owner, ID, ROWS)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO projects (user_id, id, name)"
                " SELECT :user_id, gen_random_uuid(), 'x' FROM generate_series(1, :count)"
            ),
            {"user_id": account.id, "count": ROWS},
        )
        for owner in (account, other):
            connection.execute(
                text(
                    "INSERT INTO tasks (user_id, id, title, completed, completed_at, call_key, search_document,"
                    " search_rules) SELECT :user_id, gen_random_uuid(), n::text, n > 20,"
                    " CASE WHEN n > 20 THEN now() END,"
                    " n::text, array_to_tsvector(ARRAY['word' || n]), 1 FROM generate_series(1, :count) AS n"
                ),
                {"user_id": owner.id, "count": ROWS},
            )
        connection.execute(text("ANALYZE conversations, messages, projects, tasks"))
    yield account
    with engine.begin() as connection:  # other tests read whole tables
        connection.execute(text("DELETE FROM users WHERE id IN (:a, :b)"), {"a": account.id, "b": other.id})


@pytest.mark.parametrize("after", [None, (MIDDLE, ID)])
def test_conversation_list_uses_listing_index(
    engine: Engine, large_user: LoggedInUser, after: tuple[datetime, UUID] | None
) -> None:
    plan = plan_of(
        engine,
        lambda session: conversations.page(
            session, large_user.id, status=ConversationStatus.ACTIVE, project_id=None, after=after, limit=21
        ),
    )
    assert kinds(plan) == {"Limit", "Index Scan"}
    assert plan[-1]["Index Name"] == "ix_conversations_listing"
    # Later pages start at the key instead of skipping rows.
    assert ("updated_at <=" in plan[-1]["Index Cond"]) is (after is not None)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("after", [None, 2_500])
def test_message_list_uses_primary_key(
    engine: Engine, large_user: LoggedInUser, order: messages.Order, after: int | None
) -> None:
    plan = plan_of(
        engine, lambda session: messages.page(session, large_user.id, ID, order=order, after=after, limit=21)
    )
    assert not {kind for kind in kinds(plan) if "Sort" in kind or "Seq Scan" in kind or "Bitmap" in kind}
    (scan,) = [node for node in plan if node.get("Index Name") == "pk_messages"]
    assert scan["Scan Direction"] == ("Forward" if order == "asc" else "Backward")
    assert ("position" in scan["Index Cond"]) is (after is not None)


@pytest.mark.parametrize("after", [None, ID])
def test_project_list_uses_primary_key(engine: Engine, large_user: LoggedInUser, after: UUID | None) -> None:
    plan = plan_of(engine, lambda session: projects.page(session, large_user.id, after=after, limit=21))
    assert kinds(plan) == {"Limit", "Index Scan"}
    assert plan[-1]["Index Name"] == "pk_projects"


@pytest.mark.parametrize(("completed", "index"), [(None, "pk_tasks"), (False, "ix_tasks_listing")])
@pytest.mark.parametrize("after", [None, ID])
def test_todo_list_uses_index(
    engine: Engine, large_user: LoggedInUser, completed: bool | None, index: str, after: UUID | None
) -> None:
    plan = plan_of(
        engine,
        lambda session: todos.page(session, large_user.id, completed=completed, matching=None, after=after, limit=21),
    )
    assert kinds(plan) == {"Limit", "Index Scan"}
    assert plan[-1]["Index Name"] == index


def test_todo_search_uses_search_index(engine: Engine, large_user: LoggedInUser) -> None:
    matching = todos.matching([[("'word7'", False)]])
    plan = plan_of(
        engine,
        lambda session: todos.page(session, large_user.id, completed=None, matching=matching, after=None, limit=21),
    )
    assert "ix_tasks_search_document" in {node.get("Index Name") for node in plan}


def test_todos_of_older_word_rules_are_found_by_index(engine: Engine, large_user: LoggedInUser) -> None:
    plan = plan_of(engine, lambda session: todos.STALE.all(session.connection(), {"limit": 50}))
    assert kinds(plan) == {"Limit", "Index Scan"}
    assert plan[-1]["Index Name"] == todos.STALE.index


def test_todo_of_a_call_is_read_by_its_key(engine: Engine, large_user: LoggedInUser) -> None:
    plan = plan_of(engine, lambda session: todos.by_call(session, large_user.id, "7"))
    assert [node.get("Index Name") for node in plan] == ["uq_tasks_call_key"]


def test_lease_is_read_by_primary_key(engine: Engine, large_user: LoggedInUser) -> None:
    plan = plan_of(engine, lambda session: conversations.lease(session, large_user.id, ID, 15))
    assert any(node.get("Index Name") == "pk_conversations" for node in plan)
