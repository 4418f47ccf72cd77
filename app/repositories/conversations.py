"""SQL of conversations outside the turn. Every statement names the owner."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from app.models import Conversation, ConversationStatus, ConversationStorage, Turn, TurnStatus


def page(
    session: Session,
    user_id: UUID,
    *,
    status: ConversationStatus,
    project_id: UUID | None,
    found: ColumnElement[bool] | None = None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[Conversation]:
    """Up to `limit` conversations, newest updated first, after the one with that key; of those `found`, if given."""
    statement = (
        select(Conversation)
        .prefix_with("/* conversations.page */")
        .where(Conversation.user_id == user_id, Conversation.status == status)
        .order_by(Conversation.updated_at.desc(), Conversation.id)
        .limit(limit)
    )
    if project_id is not None:
        statement = statement.where(Conversation.project_id == project_id)
    if found is not None:
        statement = statement.where(found)
    if after is not None:
        moment, identifier = after
        # The first condition bounds the index scan, which an OR alone cannot; the second drops the equal times before.
        statement = statement.where(
            Conversation.updated_at <= moment, or_(Conversation.updated_at < moment, Conversation.id > identifier)
        )
    return session.scalars(statement).all()


def get(session: Session, user_id: UUID, conversation_id: UUID) -> Conversation | None:
    """That conversation, if it is the user's."""
    return session.scalars(
        select(Conversation)
        .prefix_with("/* conversations.get */")
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
    ).one_or_none()


def add(session: Session, user_id: UUID, values: dict[str, Any]) -> Conversation:
    """A new conversation. A project that is not the user's violates fk_conversations_projects."""
    return session.scalars(
        insert(Conversation)
        .prefix_with("/* conversations.add */")
        .values(user_id=user_id, **values)
        .returning(Conversation)
    ).one()


def change(session: Session, user_id: UUID, conversation_id: UUID, values: dict[str, Any]) -> Conversation | None:
    """Set columns, whatever else goes on in the conversation; `updated_at` stays the time of its last message."""
    return session.scalars(
        update(Conversation)
        .prefix_with("/* conversations.change */")
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
        .values(**values)
        .returning(Conversation)
    ).one_or_none()


def archive(session: Session, user_id: UUID, conversation_id: UUID, stale: UUID | None) -> Conversation | None:
    """Archive, unless an attempt other than `stale` owns the conversation."""
    return session.scalars(
        update(Conversation)
        .prefix_with("/* conversations.archive */")
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
        .where(or_(Conversation.running_attempt.is_(None), Conversation.running_attempt == stale))
        .values(status=ConversationStatus.ARCHIVED)
        .returning(Conversation)
    ).one_or_none()


def unarchive(session: Session, user_id: UUID, conversation_id: UUID) -> Conversation | None:
    """Make it active, unless its messages are in a bundle. That is a sign of life: it is not archived again at once."""
    return session.scalars(
        update(Conversation)
        .prefix_with("/* conversations.unarchive */")
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
        .where(Conversation.storage == ConversationStorage.LIVE)
        .values(status=ConversationStatus.ACTIVE, revived_at=func.now())
        .returning(Conversation)
    ).one_or_none()


def remove(session: Session, user_id: UUID, conversation_id: UUID, stale: UUID | None) -> UUID | None:
    """Delete with everything in it, unless it is held or an attempt other than `stale` owns it."""
    return session.scalars(
        delete(Conversation)
        .prefix_with("/* conversations.remove */")
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
        .where(or_(Conversation.running_attempt.is_(None), Conversation.running_attempt == stale))
        .where(Conversation.legal_hold.is_(False))
        .returning(Conversation.id)
    ).one_or_none()


def lease(
    session: Session, user_id: UUID, conversation_id: UUID, stale_seconds: float
) -> Row[UUID | None, bool, bool] | None:
    """(running_attempt, stale, legal_hold) of the conversation, in one snapshot.

    An attempt is stale when its turn has been silent for `stale_seconds`; one without a turn, which no statement of
    ours leaves behind, counts from the conversation's last change, so that it cannot block for ever.
    """
    spoke = func.coalesce(Turn.heartbeat_at, Conversation.updated_at)
    of_the_lease = and_(
        Turn.user_id == Conversation.user_id,
        Turn.conversation_id == Conversation.id,
        Turn.attempt == Conversation.running_attempt,
        Turn.status == TurnStatus.RUNNING,  # lets the small index of running turns serve
    )
    return session.execute(
        select(
            Conversation.running_attempt,
            (spoke < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, stale_seconds)).label("stale"),
            Conversation.legal_hold,
        )
        .prefix_with("/* conversations.lease */")
        .outerjoin(Turn, of_the_lease)
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
    ).one_or_none()
