"""An erasure that is killed goes on from there, and its receipt counts what all runs have deleted."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.config import Settings
from app.models.columns import new_id
from app.repositories.owned import count_rows, owned_tables
from app.services import removal
from ops.accounts import removing
from ops.accounts.erasure import AccountHeld, Receipt, erase, erasures
from ops.actors import Actor
from ops.doctor import examine, select
from ops.errors import AnotherRunIsUnderWay
from ops.levels import Level
from tests.factories import Account
from tests.ops.conftest import eventually

PROJECT = Path(__file__).parents[3]
ME = Actor(kind="command", name="tester@here")
SMALL, LONG = 150, 3_000  # conversations of two messages; messages of one more conversation
# What there is of somebody: tables with their columns, and the rows.
MADE = (
    ("projects (user_id, id, name)", "SELECT gen_random_uuid(), 'p' || n FROM generate_series(1, 3) AS n"),
    (
        "prompts (user_id, project_id, id, title, content, position)",
        "SELECT id, gen_random_uuid(), 't', 'c', 1 FROM projects WHERE user_id = :u",
    ),
    (
        "conversations (user_id, id, message_count, next_position)",
        "SELECT gen_random_uuid(), 2, 3 FROM generate_series(1, :small) UNION ALL"
        " SELECT 'ffffffff-ffff-4fff-bfff-ffffffffffff', :long, :long + 1",  # the last one in their order
    ),
    (
        "messages (user_id, conversation_id, position, role, content)",
        "SELECT c.id, n, 'user', 'said ' || n FROM conversations c, generate_series(1, c.message_count) AS n"
        " WHERE c.user_id = :u",
    ),
    (
        "turns (user_id, id, conversation_id, attempt, status, position, provider, heartbeat_at, started_at,"
        " finished_at)",
        "SELECT gen_random_uuid(), conversation_id, gen_random_uuid(), 'completed', position, 'demo', now(), now(),"
        " now() FROM messages WHERE user_id = :u AND position % 2 = 1",
    ),
    (
        "turn_events (user_id, turn_id, sequence, attempt, events)",
        "SELECT id, n, attempt, '[]'::json FROM turns, generate_series(1, 2) AS n WHERE user_id = :u",
    ),
    (
        "conversation_search (user_id, conversation_id, document, indexed_position)",
        "SELECT id, to_tsvector('said'), 2 FROM conversations WHERE user_id = :u",
    ),
    (
        "conversation_archives (user_id, conversation_id, run_id, message_count, plain_bytes, sha256, bundle,"
        " previous_status)",
        "SELECT id, gen_random_uuid(), 2, 2, decode(repeat('00', 32), 'hex'), 'x'::bytea, 'active'"
        " FROM conversations WHERE user_id = :u AND message_count = 2",
    ),
    (
        "api_keys (user_id, id, name, prefix, key_hash, scopes)",
        "SELECT gen_random_uuid(), 'k', 'prl_x', decode(repeat('00', 32), 'hex'), ARRAY['read']",
    ),
    (
        "idempotency_keys (user_id, key, request_hash, status, response, expires_at)",
        "SELECT 'k', decode(repeat('00', 32), 'hex'), 200, '{}'::jsonb, now()",
    ),
)


@pytest.fixture(autouse=True)
def _context(flask_app: Flask) -> Iterator[None]:
    with flask_app.app_context():
        yield


@pytest.fixture
def rich(engine: Engine, user: Account) -> Account:
    """Who has rows in every table that rows of somebody's can be in, but that of the holds."""
    with engine.begin() as connection:
        for table, rows in MADE:
            insert = text(f"INSERT INTO {table} SELECT :u, * FROM ({rows}) AS made")
            connection.execute(insert, {"u": user.id, "small": SMALL, "long": LONG})
        there = set(count_rows(connection, user.id))
    assert there == {"users", *(str(table.name) for table in owned_tables())} - {"legal_holds"}
    return user


@pytest.fixture
def counted(engine: Engine, rich: Account) -> dict[str, int]:
    with engine.connect() as connection:
        return dict(count_rows(connection, rich.id))


@pytest.fixture
def start(settings: Settings, rich: Account) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    """A function that starts a process that erases the account."""
    environment = {**os.environ, "DATABASE_URL": str(settings.database.url), "JWT_SECRET_KEY": "x" * 32}
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.ops.accounts.eraser", str(rich.id)]
        started.append(subprocess.Popen(command, cwd=PROJECT, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def gone(engine: Engine, user_id: UUID) -> dict[str, int]:
    """What is noted as gone so far."""
    with engine.connect() as connection:
        return dict(removing.gone_so_far(connection, user_id))


def is_at(engine: Engine, statement: str) -> bool:
    """Whether some process is at that statement, or was just now."""
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE :q"),
            {"q": f"% {statement} %"},
        ).scalar_one()
    return int(found) > 0


def erased(user_id: UUID) -> Receipt:
    """Once the server has noticed that whoever was killed is gone."""
    receipts: list[Receipt] = []

    def done() -> bool:
        with suppress(AnotherRunIsUnderWay):
            receipts.append(erase(user_id=user_id, by=ME, reason="asked for it"))
        return bool(receipts)

    eventually(done)
    return receipts[0]


@pytest.mark.process
def test_killed_between_conversations_and_within_one_it_goes_on(
    engine: Engine,
    rich: Account,
    counted: dict[str, int],
    start: Callable[[], "subprocess.Popen[bytes]"],
) -> None:
    process = start()
    eventually(lambda: gone(engine, rich.id).get("conversations", 0) > 3 or process.poll() is not None)
    with pytest.raises(AnotherRunIsUnderWay):
        erase(user_id=rich.id, by=ME, reason="at the same time")
    process.kill()
    assert process.wait() < 0
    after_one = gone(engine, rich.id)
    with engine.connect() as connection:
        assert {**counted, **count_rows(connection, rich.id)} != counted
    process = start()
    eventually(lambda: is_at(engine, "removal.messages") or process.poll() is not None)
    process.kill()
    assert process.wait() < 0
    after_two = gone(engine, rich.id)
    assert sum(after_two.values()) >= sum(after_one.values())
    assert not [each for each in erasures(limit=100) if each.account_id == rich.id]
    receipt = erased(rich.id)
    assert dict(receipt.rows) == counted
    assert gone(engine, rich.id) == {}
    with engine.connect() as connection:
        assert count_rows(connection, rich.id) == {}


def test_a_long_conversation_goes_in_steps_and_all_of_it_is_counted(
    engine: Engine, rich: Account, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "STEP", 700)
    assert dict(erase(user_id=rich.id, by=ME, reason="asked for it").rows) == counted
    with engine.connect() as connection:
        assert count_rows(connection, rich.id) == {}


def test_what_went_before_a_hold_is_on_the_receipt_in_the_end(
    engine: Engine, rich: Account, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removing, "_BATCH", 10)
    with engine.begin() as connection:
        [held] = connection.execute(
            text("SELECT id FROM conversations WHERE user_id = :u ORDER BY id OFFSET 60 LIMIT 1"), {"u": rich.id}
        ).scalars()

    def hold(user_id: Any) -> None:
        with engine.begin() as connection:
            connection.execute(text("UPDATE conversations SET legal_hold = true WHERE id = :c"), {"c": held})
            connection.execute(
                text(
                    "INSERT INTO legal_holds (user_id, id, conversation_id, reason, placed_by)"
                    " VALUES (:u, :i, :c, 'x', 'y')"
                ),
                {"u": user_id, "i": new_id(), "c": held},
            )

    monkeypatch.setattr("ops.accounts.erasure._await_turns", hold)  # the moment at which others may come in between
    with pytest.raises(AccountHeld, match=str(held)):
        erase(user_id=rich.id, by=ME, reason="asked for it")
    assert gone(engine, rich.id)["conversations"] == SMALL
    assert examine(checks=select(["erasures.unfinished"])).level is Level.OK  # it might still be at it
    with engine.begin() as connection:
        aged = text("UPDATE erasures_under_way SET begun_at = now() - interval '61 minutes' WHERE account_id = :u")
        connection.execute(aged, {"u": rich.id})
    [answer] = examine(checks=select(["erasures.unfinished"])).answers
    assert (answer.level, str(rich.id) in answer.findings[0].what) == (Level.WARNING, True)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM legal_holds WHERE user_id = :u"), {"u": rich.id})
        connection.execute(text("UPDATE conversations SET legal_hold = false WHERE id = :c"), {"c": held})
    monkeypatch.undo()
    assert dict(erase(user_id=rich.id, by=ME, reason="asked for it").rows) == counted
    assert examine(checks=select(["erasures.unfinished"])).level is Level.OK
