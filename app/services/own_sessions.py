"""The sessions of a user, for the user: list them, and end one or all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.database import autocommit, current_engine
from app.errors import NotFound
from app.repositories import sessions as sql
from app.services.audit import record_own_action
from app.services.identity import Identity
from app.services.sessions import Client


@dataclass(frozen=True, slots=True)
class OwnSession:
    """A live session. `refreshed_at` is the time of the login or of the last refresh."""

    id: UUID
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    user_agent: str | None
    address: str | None
    is_current: bool


def page(caller: Identity, *, after: tuple[UUID] | None = None, limit: int) -> Sequence[OwnSession]:
    """Return a page of the caller's live sessions, newest first, and one item more if there is a next page."""
    parameters = {"user_id": caller.user_id, "after": after[0] if after else None, "limit": limit + 1}
    with autocommit() as connection:
        rows = sql.PAGE.all(connection, parameters)
    return [OwnSession(**row._mapping, is_current=row.id == caller.session_id) for row in rows]


def end(caller: Identity, session_id: UUID, client: Client) -> None:
    """End one session of the caller, the current one included. Repeating it is no error. Raises `NotFound`."""
    parameters = {"user_id": caller.user_id, "session_id": session_id}
    with current_engine().begin() as connection:
        if sql.REVOKE.one(connection, parameters) is not None:
            record_own_action(connection, caller.user_id, "user.end_session", client, {"session": str(session_id)})
        elif sql.EXISTS.one(connection, parameters) is None:
            raise NotFound("There is no such session.")


def end_others(caller: Identity, client: Client) -> None:
    """End all sessions of the caller but the current one."""
    parameters = {"user_id": caller.user_id, "session_id": caller.session_id}
    with current_engine().begin() as connection:
        ended = len(sql.REVOKE_OTHERS.all(connection, parameters))
        if ended:
            record_own_action(connection, caller.user_id, "user.end_other_sessions", client, {"sessions": ended})
