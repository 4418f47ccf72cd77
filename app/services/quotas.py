"""Daily token quotas of users. `app.turns.limits` counts the turns."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import Row

from app.bounds import MAX_TOKENS_PER_DAY
from app.database import autocommit
from app.errors import InvalidInput, NotFound
from app.repositories import quotas as sql


@dataclass(frozen=True, slots=True)
class Quota:
    """A user's quota for the current day in UTC."""

    user_id: Annotated[UUID, "Id of the user."]
    tokens_per_day: Annotated[int | None, "Tokens per day; null without a quota."]
    used: Annotated[int, "Tokens used by turns that ended today; not counted without a quota."]
    reserved: Annotated[int, "Tokens reserved for running turns."]
    resets_at: Annotated[datetime, "Start of the next day."]

    @property
    def remaining(self) -> int:
        """Tokens that a turn can still use."""
        return max(0, (self.tokens_per_day or 0) - self.used - self.reserved)


def quota_of(user_id: UUID) -> Quota:
    """Return the quota of a user. Raises `NotFound`."""
    with autocommit() as connection:
        return _quota(sql.GET.one(connection, {"user_id": user_id}))


def own_quota(user_id: UUID) -> Quota | None:
    """Return the caller's own quota, or None without one or if the user has just been deleted."""
    with autocommit() as connection:
        row = sql.GET.one(connection, {"user_id": user_id})
    return None if row is None or row.tokens_per_day is None else _quota(row)


def set_quota(user_id: UUID, tokens_per_day: int | None) -> Quota:
    """Set or, with None, remove the quota of a user. Running turns continue.

    Raises `InvalidInput` for a number out of range, and `NotFound`.
    """
    if tokens_per_day is not None and not 1 <= tokens_per_day <= MAX_TOKENS_PER_DAY:
        raise InvalidInput(f"tokens_per_day must be from 1 to {MAX_TOKENS_PER_DAY}, or none for no quota.")
    with autocommit() as connection:
        return _quota(sql.SET.one(connection, {"user_id": user_id, "tokens_per_day": tokens_per_day}))


def _quota(row: Row[Any] | None) -> Quota:
    if row is None:
        raise NotFound("There is no such user.")
    return Quota(row.id, row.tokens_per_day, int(row.used or 0), int(row.reserved), row.resets_at)
