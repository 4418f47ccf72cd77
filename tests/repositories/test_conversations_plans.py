"""What PostgreSQL does for the lists when there is much to list: no Sort, no Seq Scan."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from app.models import ConversationStatus
from app.repositories import conversations, messages, projects
from tests.api.rows import add_conversations, add_messages
from tests.factories import Account, make_account, make_conversation

pytestmark = pytest.mark.xdist_group("plans")  # the rows are made once

ROWS = 5_000
MIDDLE = datetime(2026, 2, 1, 1, tzinfo=UTC)
ID = UUID(int=2**127)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The plan's nodes from the top down."""
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


def plan_of(engine: Engine, run: Callable[[Session], object]) -> list[dict[str, Any]]:
    """The nodes of the plan of the one statement that `run` sends."""
    seen: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    with Session(engine) as session:
        event.listen(engine, "before_cursor_execute", note)
        try:
            run(session)
        finally:
            event.remove(engine, "before_cursor_execute", note)
        ((statement, parameters),) = seen
        explained = session.connection().exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    (top,) = explained if isinstance(explained, list) else json.loads(explained)
    return list(nodes(top["Plan"]))


def kinds(plan: list[dict[str, Any]]) -> set[str]:
    return {node["Node Type"] for node in plan}


@pytest.fixture(scope="module")
def much(flask_app: Flask, engine: Engine) -> Iterator[Account]:
    """A user with much of everything, beside another with as much."""
    account, other = make_account(flask_app, engine), make_account(flask_app, engine)
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
        connection.execute(text("ANALYZE conversations, messages, projects"))
    yield account
    with engine.begin() as connection:  # so many rows are much for the tests that go through all of them
        connection.execute(text("DELETE FROM users WHERE id IN (:a, :b)"), {"a": account.id, "b": other.id})


@pytest.mark.parametrize("after", [None, (MIDDLE, ID)])
def test_the_list_of_conversations_is_read_off_its_index(
    engine: Engine, much: Account, after: tuple[datetime, UUID] | None
) -> None:
    plan = plan_of(
        engine,
        lambda session: conversations.page(
            session, much.id, status=ConversationStatus.ACTIVE, project_id=None, after=after, limit=21
        ),
    )
    assert kinds(plan) == {"Limit", "Index Scan"}
    assert plan[-1]["Index Name"] == "ix_conversations_listing"
    # Later pages begin where the earlier ended, and do not read up to there.
    assert ("updated_at <=" in plan[-1]["Index Cond"]) is (after is not None)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("after", [None, 2_500])
def test_messages_are_read_off_the_primary_key(
    engine: Engine, much: Account, order: messages.Order, after: int | None
) -> None:
    plan = plan_of(engine, lambda session: messages.page(session, much.id, ID, order=order, after=after, limit=21))
    assert not {kind for kind in kinds(plan) if "Sort" in kind or "Seq Scan" in kind or "Bitmap" in kind}
    (scan,) = [node for node in plan if node.get("Index Name") == "pk_messages"]
    assert scan["Scan Direction"] == ("Forward" if order == "asc" else "Backward")
    assert ("position" in scan["Index Cond"]) is (after is not None)


@pytest.mark.parametrize("after", [None, ID])
def test_projects_are_read_off_the_primary_key(engine: Engine, much: Account, after: UUID | None) -> None:
    plan = plan_of(engine, lambda session: projects.page(session, much.id, after=after, limit=21))
    assert kinds(plan) == {"Limit", "Index Scan"}
    assert plan[-1]["Index Name"] == "pk_projects"


def test_why_a_conversation_is_busy_is_read_by_keys_alone(engine: Engine, much: Account) -> None:
    plan = plan_of(engine, lambda session: conversations.lease(session, much.id, ID, 15))
    assert any(node.get("Index Name") == "pk_conversations" for node in plan)
