"""SQL of messages outside the turn. Every statement names the owner."""

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from sqlalchemy import select, true
from sqlalchemy.orm import Session, aliased

from app.models import Conversation, Message

Order = Literal["asc", "desc"]


def page(
    session: Session, user_id: UUID, conversation_id: UUID, *, order: Order, after: int | None, limit: int
) -> tuple[str, Sequence[Message]] | None:
    """Where the conversation's messages are, and of the live ones up to `limit` after that position, in this order.

    None where the user has no such conversation. One statement says it all: the conversation is its outer row, and the
    LATERAL's limit stops the scan of the primary key, forwards or backwards; a plain join would read and sort the whole
    conversation first.
    """
    found = select(Message).where(Message.user_id == Conversation.user_id, Message.conversation_id == Conversation.id)
    if after is not None:
        found = found.where(Message.position > after if order == "asc" else Message.position < after)
    found = found.order_by(Message.position if order == "asc" else Message.position.desc()).limit(limit)
    message = aliased(Message, found.correlate(Conversation).lateral("message"))
    rows = session.execute(
        select(Conversation.storage, message)
        .prefix_with("/* messages.page */")
        .outerjoin(message, true())
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
    ).all()
    if not rows:
        return None
    # SQL promises no order outside the LATERAL.
    messages = [row for _, row in rows if row is not None]
    return rows[0][0], sorted(messages, key=lambda row: row.position, reverse=order == "desc")
