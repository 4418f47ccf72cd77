"""The bytes that users store, and their limits. Triggers of the database count them (docs/adr/0026-stored-bytes.md)."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import Connection, Row

from app.bounds import MAX_BYTES
from app.database import autocommit
from app.errors import InvalidInput, NotFound, StorageLimitReached
from app.repositories import stored_bytes as sql


@dataclass(frozen=True, slots=True)
class StorageUse:
    """The bytes that a user stores and may store."""

    user_id: Annotated[UUID, "Id of the user."]
    used_bytes: Annotated[int, "Bytes that the user stores."]
    max_bytes: Annotated[int, "Bytes that the user may store; 0 for no limit."]
    own_limit: Annotated[int | None, "The user's own limit; null if USER_MAX_BYTES applies."]


def storage_use(user_id: UUID, default: int) -> StorageUse:
    """Return what a user stores. `default` is USER_MAX_BYTES. Raises `NotFound`."""
    with autocommit() as connection:
        return _storage_use(sql.GET.one(connection, {"user_id": user_id}), default)


def set_limit(user_id: UUID, max_bytes: int | None, default: int) -> StorageUse:
    """Set the limit of a user: 0 for none, or None for the setting's. Raises `InvalidInput` and `NotFound`."""
    if max_bytes is not None and not 0 <= max_bytes <= MAX_BYTES:
        raise InvalidInput(f"max_bytes must be from 0, which means no limit, to {MAX_BYTES}; or none for the default.")
    with autocommit() as connection:
        return _storage_use(sql.SET_LIMIT.one(connection, {"user_id": user_id, "max_bytes": max_bytes}), default)


def check_limit(connection: Connection, user_id: UUID, default: int, *, adding: int = 0) -> None:
    """Raise `StorageLimitReached` if the user may not store `adding` bytes more, or nothing more."""
    row = sql.GET.one(connection, {"user_id": user_id})
    if row is None:
        return  # just deleted; the next statement finds that
    use = _storage_use(row, default)
    if use.max_bytes and (use.used_bytes >= use.max_bytes or use.used_bytes + adding > use.max_bytes):
        raise limit_reached(use.used_bytes, use.max_bytes, adding=adding)


def limit_reached(used: int, allowed: int, *, adding: int = 0) -> StorageLimitReached:
    """Return the error for a user who stores `used` bytes of `allowed`, and wants to add `adding`."""
    more = f", and this has {adding}" if adding else ""
    return StorageLimitReached(
        f"You store {used} of the {allowed} bytes that you may store{more}; delete conversations, or ask an operator."
    )


def _storage_use(row: Row[Any] | None, default: int) -> StorageUse:
    if row is None:
        raise NotFound("There is no such user.")
    limit = default if row.max_bytes is None else row.max_bytes
    return StorageUse(row.id, max(0, int(row.used)), int(limit), row.max_bytes)
