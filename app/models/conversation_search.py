from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, Integer, SmallInteger, String, Uuid
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import OwnerId, UpdatedAt


class ConversationSearch(Base):
    """Search terms of a conversation's title, and how far its messages are indexed (see SearchDocument).

    A job writes it after the turn, so that a turn pays nothing for it. It is stale where `indexed_title` or
    `indexed_position` differ from the conversation, or `rules` from the version of the word rules.
    """

    __tablename__ = "conversation_search"

    user_id: Mapped[OwnerId]
    conversation_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    document: Mapped[str] = mapped_column(TSVECTOR)
    indexed_title: Mapped[str | None] = mapped_column(String(200))
    indexed_position: Mapped[int] = mapped_column(Integer)  # of the newest message in the documents, 0 for none
    rules: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
        ),
        CheckConstraint("indexed_position >= 0", name="indexed_position"),
        # PostgreSQL intersects it with the primary key, or reads an owner's few rows alone: in 55,000 documents as
        # fast as a GIN index with the owner in it, which needs the btree_gin extension and doubles the cost of a write.
        # The pending list of `fastupdate` would make one search, or one write, now and then wait for all of it.
        Index(
            "ix_conversation_search_document", "document", postgresql_using="gin", postgresql_with={"fastupdate": "off"}
        ),
    )
