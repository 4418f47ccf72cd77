"""Conversations that have been idle for long, for the tests of the archival and of what is read through it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, text

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.models.columns import new_id
from ops.archive.load import Load
from ops.archive.reports import ArchiveRunReport
from ops.archive.run import Bounds, run
from ops.cli import COMMANDS
from tests.database import fresh_database
from tests.factories import Account, make_conversation


@pytest.fixture(scope="package")
def settings(settings: Settings, postgres: str, worker_id: str, testrun_uid: str) -> Iterator[Settings]:
    """Those of everybody, on a database of its own."""
    with fresh_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_archived") as url:
        yield replace(settings, database=settings.database.model_copy(update={"url": url}))


@pytest.fixture(scope="package")
def flask_app(settings: Settings) -> Iterator[Flask]:
    """The application with its commands, on that database, migrated."""
    flask_app = create_app(settings, commands=COMMANDS)
    flask_app.testing = False
    with flask_app.app_context():
        flask_migrate.upgrade(directory=str(Path(__file__).parents[1] / "migrations"))
        engine = db.engine
    yield flask_app
    engine.dispose()


@pytest.fixture(scope="package")
def engine(flask_app: Flask) -> Engine:
    """The application's own engine."""
    with flask_app.app_context():
        return db.engine


LONG_AGO = "2020-01-01T00:00:00.123456+00:00"
CALLS = [{"id": "c1", "type": "function", "function": {"name": "add_task", "arguments": '{"title": "`x`"}'}}]
# What people and models really say, and what a careless copy would change.
EVERYTHING: list[dict[str, Any]] = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": 'A "quote", \\ a backslash,\r\na tab\t, é, 東京, 😀, \u2028 and \x01.'},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "content": '{"ok": true}', "tool_call_id": "c1", "metadata": {"cut": True}},
    {"role": "assistant", "content": "", "metadata": {"partial": "failed", "n": [1, 2.5, 1.10], "big": 2**63}},
    {"role": "assistant", "content": "x" * 100_000},
]


def plain(count: int) -> list[dict[str, Any]]:
    """Messages of user and assistant in turns, saying their number."""
    return [{"role": "user" if n % 2 else "assistant", "content": f"message {n}"} for n in range(1, count + 1)]


def make_idle(engine: Engine, account: Account, messages: Sequence[dict[str, Any]], **columns: Any) -> UUID:
    """A conversation with these messages that was last heard of in 2020; `columns` are its own."""
    count = len(messages)
    idle = {"created_at": LONG_AGO, "updated_at": LONG_AGO, "message_count": count, "next_position": count + 1}
    conversation = make_conversation(engine, account, **{**idle, **columns})
    with engine.begin() as connection:
        for position, message in enumerate(messages, 1):
            connection.execute(
                text(
                    "INSERT INTO messages (user_id, conversation_id, position, role, content, tool_calls, tool_call_id,"
                    " metadata, turn_id, created_at) VALUES (:user_id, :conversation_id, :position, :role, :content,"
                    " :tool_calls, :tool_call_id, :metadata, :turn_id, :created_at)"
                ),
                {
                    "user_id": account.id,
                    "conversation_id": conversation,
                    "position": position,
                    "role": message["role"],
                    "content": message["content"],
                    "tool_calls": json.dumps(message["tool_calls"]) if "tool_calls" in message else None,
                    "tool_call_id": message.get("tool_call_id"),
                    "metadata": json.dumps(message.get("metadata", {})),
                    "turn_id": new_id(),
                    "created_at": f"2020-01-01T00:00:00.{position:06}+00:00",
                },
            )
    return conversation


def calm(connection: Connection) -> Load:
    """A load that never waits: how long tests take is nobody's business."""

    class Calm(Load):
        def rest(self, took: float) -> float:
            return 0.0

    return Calm(connection, home=Path("/nowhere"), slow_ms=1e9, pace=10**9)


def archive_all(flask_app: Flask, **options: Any) -> ArchiveRunReport:
    """Archive everything that is idle, of whomever."""
    bounds = Bounds(**{name: options.pop(name) for name in ("messages", "seconds") if name in options})
    with flask_app.app_context():
        return run(bounds=bounds, **{"make_load": calm, **options})


def stored(engine: Engine, conversation_id: UUID) -> Any:
    """Everything that the tables hold of a conversation's messages, as text to be compared to the last byte."""
    with engine.connect() as connection:
        return connection.execute(
            text(
                "SELECT string_agg(messages::text, E'\\n' ORDER BY position) FROM messages"
                " WHERE conversation_id = :conversation_id"
            ),
            {"conversation_id": conversation_id},
        ).scalar_one()


def place(engine: Engine, conversation_id: UUID) -> Any:
    """(status, storage, live messages, bundles) of a conversation."""
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
