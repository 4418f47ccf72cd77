"""Legal holds: who wants what kept, and why. A held conversation can be neither deleted nor archived."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from app.errors import InvalidInput, NotFound
from app.models.columns import new_id
from app.models.legal_hold import HOLD_REASON_LIMIT
from app.repositories import archives
from app.repositories import legal_holds as sql
from app.repositories.atomic import atomically
from ops.archive.candidates import FIRST
from ops.care.batches import autocommit

BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One hold."""

    id: UUID
    user_id: UUID
    conversation_id: UUID
    reason: str
    placed_by: str
    placed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Conversations that are `held` by as many new holds, with the ids of some of these."""

    held: int
    holds: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """A hold that is no more; `still_held` by others."""

    hold_id: UUID
    conversation_id: UUID
    still_held: bool


def hold_conversation(*, conversation_id: UUID, reason: str, by: str) -> Holding:
    """Hold one conversation. Raises `NotFound`, and `InvalidInput` for no reason or a long one."""
    with autocommit() as connection:
        owner = archives.OWNER.one(connection, {"conversation_id": conversation_id})
        hold = owner and _lay(connection, owner.user_id, conversation_id, _reason(reason), by)
        if not hold:
            raise NotFound(f"There is no conversation {conversation_id}.")
    return Holding(held=1, holds=(hold,))


def hold_user(*, user_id: UUID, reason: str, by: str) -> Holding:
    """Hold every conversation that the user has now; later ones are not held. Raises as `hold_conversation` does."""
    reason = _reason(reason)
    with autocommit() as connection:
        laid = [_lay(connection, user_id, each, reason, by) for each in _conversations(connection, user_id)]
    holds = tuple(filter(None, laid))
    if not holds:
        raise NotFound(f"There is no user {user_id}, or no conversation of theirs.")
    return Holding(held=len(holds), holds=holds[:20])


def lift(*, hold_id: UUID) -> Lifted:
    """End a hold; its conversation is free once nobody else holds it. Raises `NotFound`."""
    with autocommit() as connection, atomically(connection):
        held = sql.LOCK.one(connection, {"hold_id": hold_id})
        if held is None or sql.LIFT.one(connection, {"user_id": held.user_id, "hold_id": hold_id}) is None:
            raise NotFound(f"There is no hold {hold_id}.")
        freed = sql.LET_GO.one(connection, {"user_id": held.user_id, "conversation_id": held.id})
    return Lifted(hold_id=hold_id, conversation_id=held.id, still_held=bool(freed and freed.legal_hold))


def holds(*, user_id: UUID | None = None, after: tuple[UUID, UUID] = FIRST, limit: int = 100) -> list[Hold]:
    """Up to `limit` holds, of one user if one is named, by the keys (user, hold) behind `after`."""
    parameters = {"owner_id": user_id, "after_user": after[0], "after_id": after[1], "limit": limit}
    with autocommit() as connection:
        return [Hold(**row._mapping) for row in sql.PAGE.all(connection, parameters)]


def _lay(connection: Connection, user_id: UUID, conversation_id: UUID, reason: str, by: str) -> UUID | None:
    row = sql.LAY.one(
        connection,
        {
            "user_id": user_id,
            "conversation_id": conversation_id,
            "hold_id": new_id(),
            "reason": reason,
            "placed_by": by[:255],
        },
    )
    return row.id if row is not None else None


def _conversations(connection: Connection, user_id: UUID) -> Iterator[UUID]:
    after = FIRST[1]
    while page := sql.CONVERSATIONS.all(connection, {"user_id": user_id, "after": after, "batch": BATCH}):
        yield from (row.id for row in page)
        after = page[-1].id


def _reason(reason: str) -> str:
    reason = reason.strip()
    if not 1 <= len(reason) <= HOLD_REASON_LIMIT or "\x00" in reason:
        raise InvalidInput(f"A hold needs a reason of 1 to {HOLD_REASON_LIMIT} characters.")
    return reason
