from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, Integer, Uuid
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import OwnerId


class SearchDocument(Base):
    """Search terms of a range of messages: `first_position` to `last_position`, about 2,000 terms.

    A message with more terms has several documents; each begins at `first_character` of it. A range is bounded, because
    a tsvector holds at most 1 MB, 16,383 positions, and 256 positions of one term.
    """

    __tablename__ = "search_documents"

    user_id: Mapped[OwnerId]
    conversation_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    first_position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    first_character: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    last_position: Mapped[int] = mapped_column(Integer)
    document: Mapped[str] = mapped_column(TSVECTOR)

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
        ),
        CheckConstraint("first_position >= 1", name="first_position"),
        CheckConstraint("first_character >= 0", name="first_character"),
        CheckConstraint("last_position >= first_position", name="last_position"),
        # See ConversationSearch for why the owner is not in this index.
        Index(
            "ix_search_documents_document", "document", postgresql_using="gin", postgresql_with={"fastupdate": "off"}
        ),
    )
