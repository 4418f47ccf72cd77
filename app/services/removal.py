"""Deleting a conversation, however long it is: by one statement, or by many small ones where that takes too long.

400,000 messages took one statement four seconds on a busy machine. Either way all of it goes, or nothing.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.repositories import conversations
from app.repositories import removal as sql
from app.repositories.atomic import atomically

STEP = 20_000  # positions, or turns
_TOO_SLOW = "57014"  # query_canceled: the statement_timeout


def remove(session: Session, user_id: UUID, conversation_id: UUID, stale: UUID | None) -> UUID | None:
    """As `conversations.remove`, in a session in AUTOCOMMIT."""
    try:
        return conversations.remove(session, user_id, conversation_id, stale)
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _TOO_SLOW:
            raise
    connection = session.connection()
    key = {"user_id": user_id, "conversation_id": conversation_id}
    with atomically(connection):
        held = sql.LOCK.one(connection, {**key, "stale": stale})
        if held is None:
            return None
        empty(connection, user_id, conversation_id, end=held.next_position)
        return conversations.remove(session, user_id, conversation_id, stale)


def empty(connection: Connection, user_id: UUID, conversation_id: UUID, *, end: int) -> Mapping[str, int]:
    """Delete the messages before the position `end`, the turns, and what their streams said, by small statements.

    Gives how many went, by table. The caller has locked the conversation's row in a transaction, which it ends.
    """
    key: dict[str, Any] = {"user_id": user_id, "conversation_id": conversation_id}
    gone = {"messages": 0, "turns": 0, "turn_events": 0}
    for after in range(0, end, STEP):
        gone["messages"] += sql.MESSAGES.run(connection, {**key, "after": after, "up_to": after + STEP})
    sql.OPEN_TURNS.run(connection, key)
    while turns := [row.id for row in sql.NEXT_TURNS.all(connection, {"step": STEP})]:
        gone["turn_events"] += sql.TURN_EVENTS.run(connection, {**key, "turns": turns})
        gone["turns"] += sql.TURNS.run(connection, {**key, "turns": turns})
    sql.CLOSE_TURNS.run(connection, {})
    return gone
