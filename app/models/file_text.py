from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    Uuid,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from app.enums import FileTextState
from app.extensions import Base
from app.models.columns import OwnerId, UpdatedAt, enum_check


class FileText(Base):
    """The state of the text of a file; files whose type has no text, such as images, have no row.

    While it is `pending`, a job extracts the text into `file_passages`. `attempts` counts how often one has begun, and
    the next one begins at `retry_at` or later: an attempt that ended with its process is repeated then. `truncated`
    says that the file has more text than was extracted.
    """

    __tablename__ = "file_texts"

    user_id: Mapped[OwnerId]
    file_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    state: Mapped[FileTextState] = mapped_column(String(20), server_default=FileTextState.PENDING)
    reason: Mapped[str | None] = mapped_column(String(40))  # of a failure: a value of FileTextFailure
    characters: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    truncated: Mapped[bool] = mapped_column(Boolean, server_default=false())
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    retry_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        ForeignKeyConstraint(["user_id", "file_id"], ["files.user_id", "files.id"], ondelete="CASCADE"),
        enum_check("state", FileTextState),
        CheckConstraint("(state = 'failed') = (reason IS NOT NULL)", name="reason"),
        CheckConstraint("characters >= 0", name="characters"),
        Index("ix_file_texts_pending", "user_id", "file_id", postgresql_where=text("state = 'pending'")),
    )


class FilePassage(Base):
    """A passage of the text of a file: about 1,000 to 1,500 characters that end with a paragraph or a sentence.

    `ordinal` counts from 1; `start` is the passage's first character in the extracted text, from 0; `page` is the page
    of a PDF that it begins on, from 1. `search` has its terms, as `search_documents` has those of messages.
    """

    __tablename__ = "file_passages"

    user_id: Mapped[OwnerId]
    file_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    start: Mapped[int] = mapped_column(Integer)
    page: Mapped[int | None] = mapped_column(Integer)
    content: Mapped[str] = mapped_column(Text)
    search: Mapped[str] = mapped_column(TSVECTOR)

    __table_args__ = (
        # Not to `files`: an extraction that ends would lock the file and its text in another order than its deletion.
        ForeignKeyConstraint(["user_id", "file_id"], ["file_texts.user_id", "file_texts.file_id"], ondelete="CASCADE"),
        CheckConstraint("ordinal >= 1", name="ordinal"),
        CheckConstraint('"start" >= 0', name="start"),
        CheckConstraint("page >= 1", name="page"),
        CheckConstraint("char_length(content) BETWEEN 1 AND 4000", name="content"),
        # See ConversationSearch for why the owner is not in this index.
        Index("ix_file_passages_search", "search", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
    )
