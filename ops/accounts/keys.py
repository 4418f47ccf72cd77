"""API keys as operators see them: whose, how they begin, what they open; never the key."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.errors import NotFound
from app.repositories import accounts as sql
from ops.care.batches import autocommit


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


def keys(*, user_id: UUID) -> list[Key]:
    """Somebody's API keys, the newest first, ended ones too."""
    with autocommit() as connection:
        return [Key(**row._mapping) for row in sql.KEYS.all(connection, {"user_id": user_id})]


def revoke(*, user_id: UUID, key_id: UUID) -> Key:
    """End one; it fails from the next request on. Raises `NotFound`; one that has ended already stays as it is."""
    with autocommit() as connection:
        row = sql.REVOKE_KEY.one(connection, {"user_id": user_id, "key_id": key_id})
    if row is None:
        raise NotFound("This account has no such API key.")
    return Key(**row._mapping)
