"""Erasures that are killed or refused and continued later; the receipt counts the rows of all runs."""

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
from app.errors import UserHeld
from app.ids import new_id
from app.repositories.owned import count_rows, owned_tables
from app.services import conversation_deletion
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.errors import AlreadyRunning
from ops.levels import Level
from ops.runs.actors import Actor
from ops.users import erasure_steps
from ops.users.erasure import erase
from ops.users.receipts import ErasureReceipt, list_receipts
from tests.factories import LoggedInUser
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[3]
ME = Actor(kind="command", name="tester@here")
SMALL, LONG = 150, 3_000  # conversations of two messages; messages of one more conversation
# Tables with their columns, and a SELECT for their rows.
ROWS = (
    ("projects (user_id, id, name)", "SELECT gen_random_uuid(), 'p' || n FROM generate_series(1, 3) AS n"),
    (
        "prompts (user_id, project_id, id, title, content, position)",
        "SELECT id, gen_random_uuid(), 't', 'c', 1 FROM projects WHERE user_id = :u",
    ),
    (
        "prompt_versions (user_id, prompt_id, number, content, variables)",
        "SELECT id, n, 'c', false FROM prompts, generate_series(1, 2) AS n WHERE user_id = :u",
    ),
    (
        "conversations (user_id, id, message_count, next_position)",
        "SELECT gen_random_uuid(), 2, 3 FROM generate_series(1, :small) UNION ALL"
        " SELECT 'ffffffff-ffff-4fff-bfff-ffffffffffff', :long, :long + 1",  # the last one in their order
    ),
    ("tasks (user_id, id, title)", "SELECT gen_random_uuid(), 't' || n FROM generate_series(1, 3) AS n"),
    (
        "file_contents (user_id, sha256, bytes, object)",
        "SELECT encode(sha256(n::text::bytea), 'hex'), 1, gen_random_uuid() FROM generate_series(1, 3) AS n",
    ),
    (
        "files (user_id, id, name, media_type, bytes, sha256)",
        "SELECT gen_random_uuid(), 'a.txt', 'text/plain', bytes, sha256 FROM file_contents WHERE user_id = :u",
    ),
    (
        "provider_files (user_id, file_id, provider, state, remote_id)",
        "SELECT id, 'openai', 'uploaded', 'file-' || id FROM files WHERE user_id = :u",
    ),
    ("file_texts (user_id, file_id)", "SELECT id FROM files WHERE user_id = :u"),
    (
        "file_passages (user_id, file_id, ordinal, start, content, search)",
        "SELECT id, n, 0, 'a text', to_tsvector('said') FROM files, generate_series(1, 2) AS n WHERE user_id = :u",
    ),
    (
        "password_resets (user_id, id, token_hash, expires_at)",
        "SELECT gen_random_uuid(), decode(repeat('00', 32), 'hex'), now()",
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
        "tool_calls (user_id, turn_id, key, tool, attempt, state)",
        "SELECT id, 'key ' || n, 'say', attempt, 'begun' FROM turns, generate_series(1, 2) AS n WHERE user_id = :u",
    ),
    (
        "conversation_search (user_id, conversation_id, document, indexed_position)",
        "SELECT id, to_tsvector('said'), 2 FROM conversations WHERE user_id = :u",
    ),
    (
        "search_documents (user_id, conversation_id, first_position, first_character, last_position, document)",
        "SELECT id, 1, 0, 2, to_tsvector('said') FROM conversations WHERE user_id = :u",
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
def owner(engine: Engine, user: LoggedInUser) -> LoggedInUser:
    """Return a user with rows in every table with an owner, except legal_holds."""
    with engine.begin() as connection:
        for table, rows in ROWS:
            insert = text(f"INSERT INTO {table} SELECT :u, * FROM ({rows}) AS made")
            connection.execute(insert, {"u": user.id, "small": SMALL, "long": LONG})
        filled = set(count_rows(connection, user.id))
    assert filled == {"users", *(str(table.name) for table in owned_tables())} - {"legal_holds"}
    return user


@pytest.fixture
def row_counts(engine: Engine, owner: LoggedInUser) -> dict[str, int]:
    with engine.connect() as connection:
        return dict(count_rows(connection, owner.id))


@pytest.fixture
def start(settings: Settings, owner: LoggedInUser) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    """Return a function that starts a process that erases the user."""
    environment = {**os.environ, "DATABASE_URL": str(settings.database.url), "JWT_SECRET_KEY": "x" * 32}
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.ops.users.erasure_process", str(owner.id)]
        started.append(subprocess.Popen(command, cwd=PROJECT, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def erased_so_far(engine: Engine, user_id: UUID) -> dict[str, int]:
    """Return the stored counts of erased rows."""
    with engine.connect() as connection:
        return dict(erasure_steps.erased_rows(connection, user_id))


def runs_statement(engine: Engine, statement: str) -> bool:
    """Return whether a session runs that statement, or ran it last."""
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE :q"),
            {"q": f"% {statement} %"},
        ).scalar_one()
    return int(found) > 0


def erase_when_unlocked(user_id: UUID) -> ErasureReceipt:
    """Erase the user as soon as the server has released the lock of a killed process."""
    receipts: list[ErasureReceipt] = []

    def done() -> bool:
        with suppress(AlreadyRunning):
            receipts.append(erase(user_id=user_id, by=ME, reason="asked for it"))
        return bool(receipts)

    wait_until(done)
    return receipts[0]


@pytest.mark.process
def test_killed_erasure_is_continued_and_counts_all_rows(
    engine: Engine,
    owner: LoggedInUser,
    row_counts: dict[str, int],
    start: Callable[[], "subprocess.Popen[bytes]"],
) -> None:
    process = start()
    wait_until(lambda: erased_so_far(engine, owner.id).get("conversations", 0) > 3 or process.poll() is not None)
    with pytest.raises(AlreadyRunning):
        erase(user_id=owner.id, by=ME, reason="at the same time")
    process.kill()
    assert process.wait() < 0
    after_one = erased_so_far(engine, owner.id)
    with engine.connect() as connection:
        assert {**row_counts, **count_rows(connection, owner.id)} != row_counts
    process = start()
    wait_until(lambda: runs_statement(engine, "conversation_deletion.messages") or process.poll() is not None)
    process.kill()
    assert process.wait() < 0
    after_two = erased_so_far(engine, owner.id)
    assert sum(after_two.values()) >= sum(after_one.values())
    assert not [receipt for receipt in list_receipts(limit=100) if receipt.user_id == owner.id]
    receipt = erase_when_unlocked(owner.id)
    assert dict(receipt.rows) == row_counts
    assert erased_so_far(engine, owner.id) == {}
    with engine.connect() as connection:
        assert count_rows(connection, owner.id) == {}


def test_long_conversation_is_erased_in_steps_and_counted(
    engine: Engine, owner: LoggedInUser, row_counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_deletion, "STEP", 700)
    assert dict(erase(user_id=owner.id, by=ME, reason="asked for it").rows) == row_counts
    with engine.connect() as connection:
        assert count_rows(connection, owner.id) == {}


def test_receipt_counts_rows_erased_before_a_hold(
    engine: Engine, owner: LoggedInUser, row_counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure_steps, "_BATCH", 10)
    with engine.begin() as connection:
        [held] = connection.execute(
            text("SELECT id FROM conversations WHERE user_id = :u ORDER BY id OFFSET 60 LIMIT 1"), {"u": owner.id}
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

    monkeypatch.setattr("ops.users.erasure._await_turns", hold)  # called before the first deletion
    with pytest.raises(UserHeld, match=str(held)):
        erase(user_id=owner.id, by=ME, reason="asked for it")
    assert erased_so_far(engine, owner.id)["conversations"] == SMALL
    assert run_doctor(checks=select_checks(["erasures.unfinished"])).level is Level.OK  # it may still be running
    with engine.begin() as connection:
        aged = text("UPDATE pending_erasures SET begun_at = now() - interval '61 minutes' WHERE account_id = :u")
        connection.execute(aged, {"u": owner.id})
    [answer] = run_doctor(checks=select_checks(["erasures.unfinished"])).results
    assert (answer.level, str(owner.id) in answer.findings[0].message) == (Level.WARNING, True)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM legal_holds WHERE user_id = :u"), {"u": owner.id})
        connection.execute(text("UPDATE conversations SET legal_hold = false WHERE id = :c"), {"c": held})
    monkeypatch.undo()
    assert dict(erase(user_id=owner.id, by=ME, reason="asked for it").rows) == row_counts
    assert run_doctor(checks=select_checks(["erasures.unfinished"])).level is Level.OK


@pytest.mark.process
def test_erasure_killed_before_it_changed_anything_is_unfinished(
    engine: Engine,
    owner: LoggedInUser,
    row_counts: dict[str, int],
    start: Callable[[], "subprocess.Popen[bytes]"],
) -> None:
    """The user's row is locked, so the process cannot disable the user, which is its first change."""
    with engine.connect() as other, other.begin():
        other.execute(text("SELECT FROM users WHERE id = :u FOR UPDATE"), {"u": owner.id})
        process = start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE%users%'"
        with engine.connect() as watching:
            observe = watching.execution_options(isolation_level="AUTOCOMMIT")
            wait_until(lambda: observe.execute(text(waiting)).scalar_one() or process.poll() is not None)
        process.kill()
        assert process.wait() < 0
    with engine.begin() as connection:
        assert dict(count_rows(connection, owner.id)) == row_counts
        aged = text("UPDATE pending_erasures SET begun_at = now() - interval '61 minutes' WHERE account_id = :u")
        assert connection.execute(aged, {"u": owner.id}).rowcount == 1
    [answer] = run_doctor(checks=select_checks(["erasures.unfinished"])).results
    assert str(owner.id) in answer.findings[0].message
    assert dict(erase_when_unlocked(owner.id).rows) == row_counts
    assert run_doctor(checks=select_checks(["erasures.unfinished"])).level is Level.OK
