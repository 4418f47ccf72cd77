"""Fixtures and helpers for tests of bundled conversations."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, text

from app.config import Settings
from app.database import autocommit
from app.extensions import db
from app.factory import create_app
from app.ids import new_id
from app.repositories import archive_runs as runs
from app.services.search_index import index_conversations
from ops.archive.batch import bundle_batch
from ops.archive.candidates import Batch
from ops.archive.reports import ArchiveRunReport
from ops.archive.run import Bounds, run
from ops.archive.throttle import Throttle
from tests.database import migrated_database
from tests.factories import LoggedInUser, make_conversation_with
from tests.waiting import wait_until


@pytest.fixture(scope="package")
def settings(settings: Settings, postgres: str, worker_id: str, testrun_uid: str) -> Iterator[Settings]:
    """Return the settings with a separate database."""
    with migrated_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_archived") as url:
        yield replace(settings, database=settings.database.model_copy(update={"url": url}))


@pytest.fixture(scope="package")
def flask_app(settings: Settings) -> Iterator[Flask]:
    """Return the application with its commands, on the migrated database."""
    flask_app = create_app(settings)
    flask_app.testing = False
    with flask_app.app_context():
        engine = db.engine
    yield flask_app
    engine.dispose()


@pytest.fixture(scope="package")
def engine(flask_app: Flask) -> Engine:
    """Return the application's engine."""
    with flask_app.app_context():
        return db.engine


LONG_AGO = "2020-01-01T00:00:00.123456+00:00"
CALLS = [{"id": "c1", "type": "function", "function": {"name": "add_task", "arguments": '{"title": "`x`"}'}}]
# Content that a careless copy would change.
UNUSUAL_MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": 'A "quote", \\ a backslash,\r\na tab\t, é, 東京, 😀, \u2028 and \x01.'},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "content": '{"ok": true}', "tool_call_id": "c1", "metadata": {"cut": True}},
    {"role": "assistant", "content": "", "metadata": {"partial": "failed", "n": [1, 2.5, 1.10], "big": 2**63}},
    {"role": "assistant", "content": "x" * 100_000},
]


def numbered_messages(count: int) -> list[dict[str, Any]]:
    """Return messages of user and assistant in alternation, each with its number."""
    return [{"role": "user" if n % 2 else "assistant", "content": f"message {n}"} for n in range(1, count + 1)]


def make_idle(engine: Engine, account: LoggedInUser, messages: Sequence[dict[str, Any]], **columns: Any) -> UUID:
    """Create a conversation with these messages that is idle since 2020; `columns` override its columns."""
    return make_conversation_with(
        engine,
        account,
        messages,
        begin=datetime(2020, 1, 1, tzinfo=UTC),
        step=timedelta(microseconds=1),
        **{"created_at": LONG_AGO, "updated_at": LONG_AGO, **columns},
    )


def unthrottled(connection: Connection) -> Throttle:
    """Return a throttle that never pauses."""

    class Unthrottled(Throttle):
        def pause(self, batch_seconds: float, messages: int | None = None) -> float:
            return 0.0

    return Unthrottled(connection, home=Path("/nowhere"), slow_ms=1e9, pace=10**9)


def archive_all(flask_app: Flask, **options: Any) -> ArchiveRunReport:
    """Run the archival for all idle conversations."""
    bounds = Bounds(**{name: options.pop(name) for name in ("messages", "seconds") if name in options})
    with flask_app.app_context():
        return run(bounds=bounds, **{"make_throttle": unthrottled, **options})


def stored_messages(engine: Engine, conversation_id: UUID) -> Any:
    """Return the rows of a conversation's live messages as text, for a byte-by-byte comparison."""
    with engine.connect() as connection:
        return connection.execute(
            text(
                "SELECT string_agg(messages::text, E'\\n' ORDER BY position) FROM messages"
                " WHERE conversation_id = :conversation_id"
            ),
            {"conversation_id": conversation_id},
        ).scalar_one()


def storage_state(engine: Engine, conversation_id: UUID) -> Any:
    """Return (status, storage, number of live messages, number of bundles) of a conversation."""
    with engine.connect() as connection:
        return tuple(
            connection.execute(
                text(
                    "SELECT status, storage, (SELECT count(*) FROM messages WHERE conversation_id = conversations.id),"
                    " (SELECT count(*) FROM conversation_archives WHERE conversation_id = conversations.id)"
                    " FROM conversations WHERE id = :conversation_id"
                ),
                {"conversation_id": conversation_id},
            ).one()
        )


def bundle_conversation(user_id: UUID, conversation_id: UUID | str) -> UUID:
    """Move a conversation's messages into a bundle and return the id of the last archive run.

    Its age does not matter. A conversation that is bundled already stays as it is. One whose row another session has
    locked at that moment is skipped by a run, so the run is repeated.
    """
    key = (user_id, UUID(str(conversation_id)))

    def bundle() -> UUID | None:
        index_conversations([key])
        with autocommit() as connection:
            now: Any = runs.NOW.one(connection, {"days": 0})
            run: Any = runs.BEGIN.one(connection, {"run_id": new_id(), "cutoff": now.now + timedelta(days=1)})
            bundle_batch(connection, run.id, Batch([(*key, 0)], frozenset(), key, 1), run.cutoff)
            runs.END.one(connection, {"run_id": run.id, "state": "completed", "reason": None})
            query = text("SELECT storage = 'bundled' FROM conversations WHERE user_id = :user AND id = :id")
            bundled = connection.execute(query, {"user": key[0], "id": key[1]}).scalar_one()
        return UUID(str(run.id)) if bundled else None

    return wait_until(bundle, "the conversation was not bundled")
