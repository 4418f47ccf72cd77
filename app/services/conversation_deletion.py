"""Deletion of a conversation of any length: by one statement, or by many small ones if that takes too long.

400,000 messages took one statement four seconds on a busy machine. Either way it is one transaction.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.database import sqlstate
from app.repositories import conversation_deletion as sql
from app.repositories import conversations
from app.repositories.atomic import atomically

STEP = 20_000  # positions, or turns
_TOO_SLOW = "57014"  # query_canceled: the statement_timeout


def remove(session: Session, user_id: UUID, conversation_id: UUID, stale: UUID | None) -> UUID | None:
    """Delete a conversation as `conversations.remove` does, in a session in AUTOCOMMIT."""
    try:
        return conversations.remove(session, user_id, conversation_id, stale)
    except DBAPIError as error:
        if sqlstate(error) != _TOO_SLOW:
            raise
    connection = session.connection()
    key = {"user_id": user_id, "conversation_id": conversation_id}
    with atomically(connection):
        locked = sql.LOCK.one(connection, {**key, "stale": stale})
        if locked is None:
            return None
        empty(connection, user_id, conversation_id, end=locked.next_position)
        return conversations.remove(session, user_id, conversation_id, stale)


def empty(connection: Connection, user_id: UUID, conversation_id: UUID, *, end: int) -> Mapping[str, int]:
    """Delete the messages before position `end`, the turns, and their events and calls of tools, by small statements.

    Returns the number of deleted rows by table. The conversation's row must be locked in an open transaction.
    """
    key: dict[str, Any] = {"user_id": user_id, "conversation_id": conversation_id}
    deleted = {"messages": 0, "turns": 0, "turn_events": 0, "tool_calls": 0}
    for after in range(0, end, STEP):
        deleted["messages"] += sql.MESSAGES.run(connection, {**key, "after": after, "up_to": after + STEP})
    sql.OPEN_TURNS.run(connection, key)
    while turns := [row.id for row in sql.NEXT_TURNS.all(connection, {"step": STEP})]:
        deleted["turn_events"] += sql.TURN_EVENTS.run(connection, {**key, "turns": turns})
        deleted["tool_calls"] += sql.TOOL_CALLS.run(connection, {**key, "turns": turns})
        deleted["turns"] += sql.TURNS.run(connection, {**key, "turns": turns})
    sql.CLOSE_TURNS.run(connection, {})
    return deleted
