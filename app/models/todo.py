from datetime import datetime

from sqlalchemy import Boolean, CheckConstraint, DateTime, Index, SmallInteger, String, Text, false, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import CreatedAt, OwnId, UpdatedAt, UserOwned


class Todo(Base):
    """A to-do item of a user. `call_key` identifies the tool call that created it, so that a repeated one adds none.

    `search_document` holds the terms of title and description, as the word rules of version `search_rules` read them.
    """

    __tablename__ = "tasks"

    user_id: Mapped[UserOwned]
    id: Mapped[OwnId]
    title: Mapped[str] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(Text)
    completed: Mapped[bool] = mapped_column(Boolean, server_default=false())
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    call_key: Mapped[str | None] = mapped_column(String(64))
    search_document: Mapped[str] = mapped_column(TSVECTOR, server_default=text("''"), deferred=True)
    search_rules: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        CheckConstraint("char_length(title) >= 1", name="title"),
        CheckConstraint("char_length(description) <= 10000", name="description"),
        CheckConstraint("completed = (completed_at IS NOT NULL)", name="completed_at"),
        CheckConstraint("updated_at >= created_at", name="updated_at"),
        Index("ix_tasks_listing", "user_id", "completed", "id"),
        Index("uq_tasks_call_key", "user_id", "call_key", unique=True, postgresql_where=text("call_key IS NOT NULL")),
        # See ConversationSearch for why the owner is not in this index, and why it has no pending list.
        Index(
            "ix_tasks_search_document",
            "search_document",
            postgresql_using="gin",
            postgresql_with={"fastupdate": "off"},
        ),
        Index("ix_tasks_search_rules", "search_rules"),  # finds the rows that older rules wrote
    )
