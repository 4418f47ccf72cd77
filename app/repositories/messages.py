"""SQL of messages: the pages of the API."""

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
    """Return the conversation's storage, and up to `limit` live messages after that position, in this order.

    Returns None if the user has no such conversation. In one statement the LATERAL's limit ends the scan of the primary
    key in either direction; a plain join would read and sort all messages first.
    """
    page = select(Message).where(Message.user_id == Conversation.user_id, Message.conversation_id == Conversation.id)
    if after is not None:
        page = page.where(Message.position > after if order == "asc" else Message.position < after)
    page = page.order_by(Message.position if order == "asc" else Message.position.desc()).limit(limit)
    message = aliased(Message, page.correlate(Conversation).lateral("message"))
    rows = session.execute(
        select(Conversation.storage, message)
        .prefix_with("/* messages.page */")
        .outerjoin(message, true())
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
    ).all()
    if not rows:
        return None
    # SQL guarantees no order outside the LATERAL.
    messages = [row for _, row in rows if row is not None]
    return rows[0][0], sorted(messages, key=lambda row: row.position, reverse=order == "desc")
