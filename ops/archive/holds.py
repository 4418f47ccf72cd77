"""Legal holds with their reasons. A held conversation can be neither deleted nor bundled."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from sqlalchemy import Connection

from app.database import autocommit
from app.errors import NotFound
from app.ids import new_id
from app.repositories import archives
from app.repositories import legal_holds as sql
from app.repositories.atomic import atomically
from ops.archive.candidates import FIRST_KEY
from ops.runs.reasons import checked_reason

BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A legal hold on a conversation."""

    id: Annotated[UUID, "Id of the hold."]
    user_id: Annotated[UUID, "Owner of the conversation."]
    conversation_id: Annotated[UUID, "The conversation that is held."]
    reason: Annotated[str, "Why it is held."]
    placed_by: Annotated[str, "Who placed the hold."]
    placed_at: Annotated[datetime, "When it was placed."]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedHolds:
    """New holds, one per conversation."""

    held: Annotated[int, "Number of new holds."]
    holds: Annotated[tuple[UUID, ...], "Ids of the first 20 of them."] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftedHold:
    """A lifted hold."""

    hold_id: Annotated[UUID, "Id of the hold."]
    conversation_id: Annotated[UUID, "The conversation that was held."]
    still_held: Annotated[bool, "Whether the conversation has other holds."]


def hold_conversation(*, conversation_id: UUID, reason: str, by: str) -> PlacedHolds:
    """Hold one conversation. Raises `NotFound`, and `InvalidInput` for a reason out of bounds."""
    with autocommit() as connection:
        owner = archives.OWNER.one(connection, {"conversation_id": conversation_id})
        hold = owner and _place(connection, owner.user_id, conversation_id, checked_reason(reason), by)
        if not hold:
            raise NotFound(f"There is no conversation {conversation_id}.")
    return PlacedHolds(held=1, holds=(hold,))


def hold_user(*, user_id: UUID, reason: str, by: str) -> PlacedHolds:
    """Hold every current conversation of the user; later ones are not held. Raises as `hold_conversation` does."""
    reason = checked_reason(reason)
    with autocommit() as connection:
        placed = [
            _place(connection, user_id, conversation_id, reason, by)
            for conversation_id in _conversations(connection, user_id)
        ]
    holds = tuple(filter(None, placed))
    if not holds:
        raise NotFound(f"There is no user {user_id}, or no conversation of theirs.")
    return PlacedHolds(held=len(holds), holds=holds[:20])


def lift_hold(*, hold_id: UUID) -> LiftedHold:
    """Delete a hold. Its conversation stays held while it has other holds. Raises `NotFound`."""
    with autocommit() as connection, atomically(connection):
        held = sql.LOCK.one(connection, {"hold_id": hold_id})
        if held is None or sql.LIFT.one(connection, {"user_id": held.user_id, "hold_id": hold_id}) is None:
            raise NotFound(f"There is no hold {hold_id}.")
        conversation = sql.UPDATE_FLAG.one(connection, {"user_id": held.user_id, "conversation_id": held.id})
    still_held = bool(conversation and conversation.legal_hold)
    return LiftedHold(hold_id=hold_id, conversation_id=held.id, still_held=still_held)


def list_holds(*, user_id: UUID | None = None, after: tuple[UUID, UUID] = FIRST_KEY, limit: int = 100) -> list[Hold]:
    """Return up to `limit` holds, of all users or one, sorted by (user id, hold id) from behind `after`."""
    parameters = {"owner_id": user_id, "after_user": after[0], "after_id": after[1], "limit": limit}
    with autocommit() as connection:
        return [Hold(**row._mapping) for row in sql.PAGE.all(connection, parameters)]


def _place(connection: Connection, user_id: UUID, conversation_id: UUID, reason: str, by: str) -> UUID | None:
    row = sql.PLACE.one(
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
    after = FIRST_KEY[1]
    while page := sql.CONVERSATIONS.all(connection, {"user_id": user_id, "after": after, "batch": BATCH}):
        yield from (row.id for row in page)
        after = page[-1].id
