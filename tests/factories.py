"""Rows to test with, made straight in the database."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Flask
from flask_jwt_extended import create_access_token
from sqlalchemy import Engine, insert

from app.models import Conversation, Session, User
from app.models.columns import new_id

PASSWORD = "correct horse battery"
# bcrypt, 12 rounds, of PASSWORD: computed once, because hashing costs a quarter of a second.
PASSWORD_HASH = "$2b$12$OPeU0JUyyJscgLwq8FMcF.pXRX7/pKbDchjvBIC1IyhqFXVwfGetu"


@dataclass
class Account:
    """A user with one open session."""

    id: UUID
    email: str
    name: str
    session_id: UUID
    access_token: str
    password: str = PASSWORD
    headers: dict[str, str] = field(default_factory=dict)


def make_account(flask_app: Flask, engine: Engine, **overrides: Any) -> Account:
    """Insert a user and a session and mint its access token; `overrides` are columns of the user."""
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
    return Account(user_id, values["email"], values["name"], session_id, token, headers=headers)


def make_conversation(engine: Engine, account: Account, **overrides: Any) -> UUID:
    """Insert an empty conversation; `overrides` are its columns."""
    conversation_id = overrides.pop("id", None) or new_id()
    with engine.begin() as connection:
        connection.execute(insert(Conversation).values(user_id=account.id, id=conversation_id, **overrides))
    return conversation_id
