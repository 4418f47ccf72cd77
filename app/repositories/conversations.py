"""SQL of conversations outside the turn. Every statement names the owner."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, and_, delete, func, insert, literal, or_, select, union_all, update
from sqlalchemy.orm import Session, aliased

from app.enums import ConversationStatus, ConversationStorage, TurnStatus
from app.models import Conversation, Turn


def page(
    session: Session,
    user_id: UUID,
    *,
    status: ConversationStatus | None,
    project_id: UUID | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[Conversation]:
    """Return up to `limit` conversations, newest update first, after the one with that key; None is every status."""
    statuses = [status] if status is not None else list(ConversationStatus)
    # One index scan for each status, because none gives the order of several.
    pages = [_listed(user_id, status, project_id, after).limit(limit) for status in statuses]
    if len(pages) == 1:
        return session.scalars(pages[0].prefix_with("/* conversations.page */")).all()
    merged = aliased(Conversation, union_all(*(select(page.subquery()) for page in pages)).subquery())
    return session.scalars(
        select(merged)
        .prefix_with("/* conversations.page */")
        .order_by(merged.updated_at.desc(), merged.id)
        .limit(limit)
    ).all()


def found_page(
    session: Session,
    user_id: UUID,
    *,
    status: ConversationStatus | None,
    project_id: UUID | None,
    matching: ColumnElement[bool],
    rank: ColumnElement[float] | None,
    after: tuple[Any, ...] | None,
    limit: int,
) -> Sequence[Row[Conversation, float]]:
    """Return up to `limit` conversations that match, each with its rank.

    The best rank comes first, or with `rank` None, where all ranks are 0, the newest update. `after` is the key of the
    last one before: rank and id, or update and id.
    """
    statement = select(Conversation, literal(0.0) if rank is None else rank.label("rank")).where(
        Conversation.user_id == user_id, matching
    )
    if status is not None:
        statement = statement.where(Conversation.status == status)
    if project_id is not None:
        statement = statement.where(Conversation.project_id == project_id)
    order: ColumnElement[Any] = Conversation.updated_at.expression if rank is None else rank
    if after is not None:
        value, identifier = after
        statement = statement.where(or_(order < value, and_(order == value, Conversation.id > identifier)))
    return session.execute(
        statement.prefix_with("/* conversations.search */").order_by(order.desc(), Conversation.id).limit(limit)
    ).all()


def _listed(
    user_id: UUID, status: ConversationStatus, project_id: UUID | None, after: tuple[datetime, UUID] | None
) -> Select[Conversation]:
    statement = (
        select(Conversation)
        .where(Conversation.user_id == user_id, Conversation.status == status)
        .order_by(Conversation.updated_at.desc(), Conversation.id)
    )
    if project_id is not None:
        statement = statement.where(Conversation.project_id == project_id)
    if after is not None:
        time, identifier = after
        # The first condition bounds the index scan, which an OR alone cannot; the second drops equal times before it.
        statement = statement.where(
            Conversation.updated_at <= time, or_(Conversation.updated_at < time, Conversation.id > identifier)
        )
    return statement


def get(session: Session, user_id: UUID, conversation_id: UUID) -> Conversation | None:
    """Return a conversation of the user, or None."""
    return session.scalars(
        select(Conversation)
        .prefix_with("/* conversations.get */")
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
    ).one_or_none()


def add(session: Session, user_id: UUID, values: dict[str, Any]) -> Conversation:
    """Insert a conversation. A project of another user violates fk_conversations_projects."""
    return session.scalars(
        insert(Conversation)
        .prefix_with("/* conversations.add */")
        .values(user_id=user_id, **values)
        .returning(Conversation)
    ).one()


def change(session: Session, user_id: UUID, conversation_id: UUID, values: dict[str, Any]) -> Conversation | None:
    """Update columns, also during a turn; `updated_at` stays the time of the last message."""
    return session.scalars(
        update(Conversation)
        .prefix_with("/* conversations.change */")
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
        .values(**values)
        .returning(Conversation)
    ).one_or_none()


def archive(session: Session, user_id: UUID, conversation_id: UUID, stale: UUID | None) -> Conversation | None:
    """Set the status `archived`, unless an attempt other than `stale` has the lease."""
    return session.scalars(
        update(Conversation)
        .prefix_with("/* conversations.archive */")
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
        .where(or_(Conversation.running_attempt.is_(None), Conversation.running_attempt == stale))
        .values(status=ConversationStatus.ARCHIVED)
        .returning(Conversation)
    ).one_or_none()


def unarchive(session: Session, user_id: UUID, conversation_id: UUID) -> Conversation | None:
    """Set the status `active`, unless the messages are in a bundle. Counts as activity, as a message does."""
    return session.scalars(
        update(Conversation)
        .prefix_with("/* conversations.unarchive */")
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
        .where(Conversation.storage == ConversationStorage.LIVE)
        .values(status=ConversationStatus.ACTIVE, revived_at=func.now())
        .returning(Conversation)
    ).one_or_none()


def remove(session: Session, user_id: UUID, conversation_id: UUID, stale: UUID | None) -> UUID | None:
    """Delete with all its rows, unless it is under a legal hold or an attempt other than `stale` has the lease."""
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
    """Return (running_attempt, stale, legal_hold) of the conversation, in one snapshot.

    An attempt is stale if the last heartbeat of its turn is older than `stale_seconds`. An attempt without a turn,
    which no statement of Parley leaves behind, counts from the conversation's last update, so that it cannot block
    forever.
    """
    last_sign = func.coalesce(Turn.heartbeat_at, Conversation.updated_at)
    of_attempt = and_(
        Turn.user_id == Conversation.user_id,
        Turn.conversation_id == Conversation.id,
        Turn.attempt == Conversation.running_attempt,
        Turn.status == TurnStatus.RUNNING,  # allows the small index of running turns
    )
    return session.execute(
        select(
            Conversation.running_attempt,
            (last_sign < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, stale_seconds)).label("stale"),
            Conversation.legal_hold,
        )
        .prefix_with("/* conversations.lease */")
        .outerjoin(Turn, of_attempt)
        .where(Conversation.user_id == user_id, Conversation.id == conversation_id)
    ).one_or_none()
