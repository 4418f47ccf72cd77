"""Deleting a conversation, however long it is: by one statement, or by many small ones where that takes too long.

400,000 messages took one statement four seconds on a busy machine. Either way all of it goes, or nothing.
"""

from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.repositories import conversations
from app.repositories import removal as sql
from app.repositories.atomic import atomically

STEP = 20_000  # positions
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
        for up_to in range(STEP, held.next_position + STEP, STEP):
            sql.MESSAGES.run(connection, {**key, "up_to": up_to})
        for up_to in range(STEP, held.next_position + STEP, STEP):
            sql.TURNS.run(connection, {**key, "up_to": up_to})
        return conversations.remove(session, user_id, conversation_id, stale)
