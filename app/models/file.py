from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, String, Uuid
from sqlalchemy import text as sql_text
from sqlalchemy.orm import Mapped, mapped_column, query_expression, relationship

from app.extensions import Base
from app.models.columns import CreatedAt, Moment, OwnId, UserOwned
from app.models.file_text import FileText


class FileContent(Base):
    """The bytes of a user's files with this SHA-256 (hexadecimal): `object` is their name in the store of files.

    Equal files of a user share one content. A trigger adds a row to `file_removals` when one is deleted.
    """

    __tablename__ = "file_contents"

    user_id: Mapped[UserOwned]
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    object: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
        CheckConstraint("bytes >= 1", name="bytes"),
        Index("ix_file_contents_object", "object"),
    )


class File(Base):
    """A file of a user, optionally of a project."""

    __tablename__ = "files"

    user_id: Mapped[UserOwned]
    id: Mapped[OwnId]
    project_id: Mapped[UUID | None] = mapped_column(Uuid)
    name: Mapped[str] = mapped_column(String(255))
    media_type: Mapped[str] = mapped_column(String(100))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[CreatedAt]
    # Its copies at providers, as objects; only statements of `app.repositories.files` that read files select them.
    copies: Mapped[list[dict[str, Any]] | None] = query_expression()

    text: Mapped[FileText | None] = relationship(FileText, viewonly=True, lazy="joined")

    __table_args__ = (
        ForeignKeyConstraint(["user_id", "project_id"], ["projects.user_id", "projects.id"], ondelete="CASCADE"),
        ForeignKeyConstraint(["user_id", "sha256"], ["file_contents.user_id", "file_contents.sha256"]),
        CheckConstraint("char_length(name) >= 1", name="name"),
        Index("ix_files_content", "user_id", "sha256"),
        Index("ix_files_project", "user_id", "project_id", "id", postgresql_where=sql_text("project_id IS NOT NULL")),
    )

    @property
    def provider_files(self) -> list[dict[str, Any]]:
        """The copies of the file at providers; a new file has none."""
        return self.copies or []


class FileRemoval(Base):
    """An object of the store of files that no content refers to any more; a job deletes it from the store."""

    __tablename__ = "file_removals"

    object: Mapped[str] = mapped_column(String(64), primary_key=True)
    receipt_id: Mapped[UUID | None] = mapped_column(Uuid)  # of the erasure that removed the content
    created_at: Mapped[Moment] = mapped_column(server_default=sql_text("now()"))

    __table_args__ = (
        Index("ix_file_removals_receipt", "receipt_id", postgresql_where=sql_text("receipt_id IS NOT NULL")),
    )
