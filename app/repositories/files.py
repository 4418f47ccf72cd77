"""SQL of files and their contents."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, select, text
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session, with_expression
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.interfaces import ORMOption

from app.models import File, FileContent, FileText, LegalHold, ProviderFile
from app.repositories.statement import Statement


def _of_user(user_id: UUID, file_id: UUID) -> ColumnElement[bool]:
    return and_(File.user_id == user_id, File.id == file_id)


def _with_copies() -> ORMOption:
    """Return the option that selects the copies at providers with each file."""
    copy = ProviderFile
    one = func.jsonb_build_object("provider", copy.provider, "state", copy.state, "reason", copy.reason)
    copies = (
        select(func.coalesce(func.jsonb_agg(aggregate_order_by(one, copy.provider)), text("'[]'")))
        .where(copy.user_id == File.user_id, copy.file_id == File.id)
        .correlate(File)
        .scalar_subquery()
    )
    return with_expression(File.copies, copies)


def page(session: Session, user_id: UUID, *, project_id: UUID | None, after: UUID | None, limit: int) -> Sequence[File]:
    """Return up to `limit` files, newest first."""
    statement = select(File).prefix_with("/* files.page */").options(_with_copies()).where(File.user_id == user_id)
    if after is not None:
        statement = statement.where(File.id < after)
    if project_id is not None:
        statement = statement.where(File.project_id == project_id)
    return session.scalars(statement.order_by(File.id.desc()).limit(limit)).all()


def get(session: Session, user_id: UUID, file_id: UUID) -> tuple[File, str] | None:
    """Return a file of the user and the name of its object in the store, or None."""
    of_content = and_(FileContent.user_id == File.user_id, FileContent.sha256 == File.sha256)
    statement = (
        select(File, FileContent.object)
        .prefix_with("/* files.get */")
        .options(_with_copies())
        .join(FileContent, of_content)
        .where(_of_user(user_id, file_id))
    )
    row = session.execute(statement).one_or_none()
    return (row[0], row[1]) if row else None


def count(session: Session, user_id: UUID, limit: int) -> int:
    """Return the number of the user's files, counted up to `limit`."""
    first = select(File.id).where(File.user_id == user_id).limit(limit).subquery()
    return session.scalars(select(func.count()).prefix_with("/* files.count */").select_from(first)).one()


def add_content(session: Session, user_id: UUID, values: dict[str, Any]) -> str:
    """Insert a content unless the user has it, and lock it until the transaction ends. Return its object."""
    statement = upsert(FileContent).prefix_with("/* files.add_content */").values(user_id=user_id, **values)
    kept = {"bytes": FileContent.bytes}  # an update locks the row, also against its deletion
    key = [FileContent.user_id, FileContent.sha256]
    return session.scalars(
        statement.on_conflict_do_update(index_elements=key, set_=kept).returning(FileContent.object)
    ).one()


def equal(session: Session, user_id: UUID, *, sha256: str, name: str, project_id: UUID | None) -> File | None:
    """Return the user's oldest file with this content, name and project, or None."""
    statement = (
        select(File)
        .prefix_with("/* files.equal */")
        .options(_with_copies())
        .where(
            File.user_id == user_id,
            File.sha256 == sha256,
            File.name == name,
            File.project_id.is_not_distinct_from(project_id),
        )
        .order_by(File.id)
        .limit(1)
    )
    return session.scalars(statement).one_or_none()


def add(session: Session, user_id: UUID, values: dict[str, Any]) -> File:
    """Insert a file."""
    return session.scalars(
        insert(File).prefix_with("/* files.add */").values(user_id=user_id, **values).returning(File)
    ).one()


def add_text(session: Session, file: File) -> FileText:
    """Insert the pending text of a file."""
    values = {"user_id": file.user_id, "file_id": file.id}
    return session.scalars(
        insert(FileText).prefix_with("/* files.add_text */").values(values).returning(FileText)
    ).one()


def set_text(file: File, text: FileText | None) -> None:
    """Set the text of a file that was just inserted, as reading the file again would."""
    set_committed_value(file, "text", text)


def remove(session: Session, user_id: UUID, file_id: UUID) -> str | None:
    """Delete a file and return the SHA-256 of its content, or None. A legal hold of the user keeps it."""
    statement = delete(File).prefix_with("/* files.remove */").where(_of_user(user_id, file_id), ~has_hold(user_id))
    return session.scalars(statement.returning(File.sha256)).one_or_none()


def has_hold(user_id: UUID) -> ColumnElement[bool]:
    """Return the condition that a legal hold is on a conversation of the user."""
    return exists().where(LegalHold.user_id == user_id)


# A content that a concurrent upload begins to use violates its foreign key, and stays.
REMOVE_UNUSED = Statement(
    "files.remove_unused",
    """
DELETE FROM file_contents AS c WHERE c.user_id = %(user_id)s AND c.sha256 = %(sha256)s
   AND NOT EXISTS (SELECT FROM files AS f WHERE f.user_id = c.user_id AND f.sha256 = c.sha256)""",
)

UNUSED = Statement(
    "files.unused",
    """
SELECT c.user_id, c.sha256 FROM file_contents AS c
 WHERE (c.user_id, c.sha256) > (%(user_id)s, %(sha256)s)
   AND NOT EXISTS (SELECT FROM files AS f WHERE f.user_id = c.user_id AND f.sha256 = c.sha256)
 ORDER BY c.user_id, c.sha256 LIMIT %(batch)s""",
)

REMOVALS = Statement(
    "files.removals",
    """
SELECT object FROM file_removals WHERE object > %(after)s ORDER BY object LIMIT %(batch)s""",
)
REMOVED = Statement("files.removed", "DELETE FROM file_removals WHERE object = %(object)s")

# Of these objects, those that no content refers to.
UNKNOWN_OBJECTS = Statement(
    "files.unknown_objects",
    """
SELECT o.object FROM unnest(%(objects)s::text[]) AS o(object)
 WHERE NOT EXISTS (SELECT FROM file_contents AS c WHERE c.object = o.object)""",
)

# The objects and sizes of the contents that were stored before a time, in pages.
CONTENTS = Statement(
    "files.contents",
    """
SELECT object, bytes FROM file_contents WHERE object > %(after)s AND created_at < %(before)s
 ORDER BY object LIMIT %(batch)s""",
)

COUNT_CONTENTS = Statement("files.count_contents", "SELECT count(*) AS contents FROM file_contents")

# For a restore, in the order of a backup's list.
CONTENTS_BY_HASH = Statement(
    "files.contents_by_hash",
    """
SELECT sha256, bytes, object FROM file_contents
 WHERE (sha256 COLLATE "C", object COLLATE "C") > (%(sha256)s, %(object)s)
 ORDER BY sha256 COLLATE "C", object COLLATE "C" LIMIT %(batch)s""",
)
