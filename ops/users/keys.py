"""API keys of users, for operators. The keys themselves are never shown."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from app.database import autocommit
from app.enums import KeyScope
from app.errors import NotFound
from app.repositories import user_admin as sql


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeySummary:
    """An API key without its secret."""

    id: Annotated[UUID, "Id of the key."]
    name: Annotated[str, "Name of the key."]
    prefix: Annotated[str, "First characters of the key."]
    scopes: Annotated[list[KeyScope], "What the key may do."]
    created_at: Annotated[datetime, "When it was created."]
    last_used_at: Annotated[datetime | None, "Last use, up to two minutes old; null if never used."]
    expires_at: Annotated[datetime | None, "When it expires; null if never."]
    revoked_at: Annotated[datetime | None, "When it was revoked; null if it was not."]


def list_keys(*, user_id: UUID) -> list[ApiKeySummary]:
    """Return the user's API keys, newest first, including ended ones."""
    with autocommit() as connection:
        return [ApiKeySummary(**row._mapping) for row in sql.KEYS.all(connection, {"user_id": user_id})]


def revoke_key(*, user_id: UUID, key_id: UUID) -> ApiKeySummary:
    """Revoke a key, with effect from the next request. An ended key is not changed. Raises `NotFound`."""
    with autocommit() as connection:
        row = sql.REVOKE_KEY.one(connection, {"user_id": user_id, "key_id": key_id})
    if row is None:
        raise NotFound("This account has no such API key.")
    return ApiKeySummary(**row._mapping)
