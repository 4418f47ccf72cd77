"""How many tokens a user may use in a day. Turns count in it as `turn_limits` says."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from app.errors import InvalidInput, NotFound
from app.repositories import quotas as sql
from app.services.sessions import autocommit

MOST = 10**15  # tokens a day


@dataclass(frozen=True, slots=True)
class Quota:
    """A user's day in UTC: `used` by turns that have ended, `reserved` for those that are running, in tokens.

    Without `tokens_per_day` there is no quota, and `used` says nothing. `resets_at` is the next midnight.
    """

    user_id: UUID
    tokens_per_day: int | None
    used: int
    reserved: int
    resets_at: datetime

    @property
    def remaining(self) -> int:
        """What a turn could still take."""
        return max(0, (self.tokens_per_day or 0) - self.used - self.reserved)


def quota_of(user_id: UUID) -> Quota:
    """The quota as it stands. Raises `NotFound` where there is no such user."""
    with autocommit() as connection:
        return _quota(sql.GET.one(connection, {"user_id": user_id}))


def own_quota(user_id: UUID) -> Quota | None:
    """The same for the user's own eyes: None without a quota, and for an account that has just been deleted."""
    with autocommit() as connection:
        row = sql.GET.one(connection, {"user_id": user_id})
    return None if row is None or row.tokens_per_day is None else _quota(row)


def set_quota(user_id: UUID, tokens_per_day: int | None) -> Quota:
    """Give the user a quota, change it, or with None take it away; turns that are running go on.

    Raises `InvalidInput` for a number that is none, and `NotFound` where there is no such user.
    """
    if tokens_per_day is not None and not 1 <= tokens_per_day <= MOST:
        raise InvalidInput(f"tokens_per_day must be from 1 to {MOST}, or none for no quota.")
    with autocommit() as connection:
        return _quota(sql.SET.one(connection, {"user_id": user_id, "tokens_per_day": tokens_per_day}))


def _quota(row: Row[Any] | None) -> Quota:
    if row is None:
        raise NotFound("There is no such user.")
    return Quota(row.id, row.tokens_per_day, int(row.used or 0), int(row.reserved), row.resets_at)
