"""Factories that insert rows for tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Flask
from flask_jwt_extended import create_access_token
from sqlalchemy import Engine, insert

from app.ids import new_id
from app.models import Conversation, Message, Session, User

PASSWORD = "correct horse battery"
# bcrypt of PASSWORD with 12 rounds, a constant because hashing takes 0.25 s.
PASSWORD_HASH = "$2b$12$OPeU0JUyyJscgLwq8FMcF.pXRX7/pKbDchjvBIC1IyhqFXVwfGetu"


@dataclass
class LoggedInUser:
    """A user with one open session."""

    id: UUID
    email: str
    name: str
    session_id: UUID
    access_token: str
    password: str = PASSWORD
    headers: dict[str, str] = field(default_factory=dict)


def insert_user(flask_app: Flask, engine: Engine, **overrides: Any) -> LoggedInUser:
    """Insert a user with an open session and create an access token; `overrides` are columns of the user."""
    user_id, session_id, now = new_id(), new_id(), datetime.now(UTC)
    values = {
        "id": user_id,
        "email": f"{user_id.hex}@example.org",
        "name": "Ada",
        "password_hash": PASSWORD_HASH,
        **overrides,
    }
    with engine.begin() as connection:
        connection.execute(insert(User).values(values))
        connection.execute(
            insert(Session).values(
                user_id=user_id,
                id=session_id,
                refresh_hash=b"\0" * 32,
                rotated_at=now,
                expires_at=now + timedelta(days=7),
            )
        )
    with flask_app.app_context():
        token = create_access_token(str(user_id), additional_claims={"sid": str(session_id)})
    headers = {"Authorization": f"Bearer {token}"}
    return LoggedInUser(user_id, values["email"], values["name"], session_id, token, headers=headers)


def make_conversation(engine: Engine, account: LoggedInUser, **overrides: Any) -> UUID:
    """Insert an empty conversation; `overrides` are its columns."""
    conversation_id = overrides.pop("id", None) or new_id()
    with engine.begin() as connection:
        connection.execute(insert(Conversation).values(user_id=account.id, id=conversation_id, **overrides))
    return conversation_id


def make_conversation_with(
    engine: Engine,
    account: LoggedInUser,
    messages: Sequence[Mapping[str, Any]],
    *,
    begin: datetime,
    step: timedelta,
    **columns: Any,
) -> UUID:
    """Insert a conversation with `messages`, each `step` after the one before; `columns` are those of the conversation.

    A message has the keys `role` and `content`, and may have `tool_calls`, `tool_call_id` and `metadata`.
    """
    count = len(messages)
    conversation = make_conversation(engine, account, **{"message_count": count, "next_position": count + 1, **columns})
    rows = [
        {
            "user_id": account.id,
            "conversation_id": conversation,
            "position": position,
            "role": message["role"],
            "content": message["content"],
            "tool_calls": message.get("tool_calls"),
            "tool_call_id": message.get("tool_call_id"),
            "metadata": message.get("metadata", {}),
            "turn_id": new_id(),
            "created_at": begin + position * step,
        }
        for position, message in enumerate(messages, 1)
    ]
    if rows:
        with engine.begin() as connection:
            connection.execute(insert(Message), rows)
    return conversation
