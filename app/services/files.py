"""Files of a user: their rows, and the objects of the store that hold their contents."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import autocommit
from app.errors import NotFound, TooManyFiles, UserHeld
from app.models import File
from app.repositories import files
from app.services.file_types import has_text
from app.services.stored_bytes import check_limit
from app.services.transactions import autocommit_session, transaction


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A content that was written to the store as `object`. `sha256` is hexadecimal."""

    object: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileLimits:
    """The limits of a user: `max_bytes` is USER_MAX_BYTES, `max_files` is FILES_MAX_PER_USER."""

    max_bytes: int
    max_files: int

    def check(self, session: Session, user_id: UUID, adding: int) -> None:
        """Raise `StorageLimitReached` or `TooManyFiles` if the user may not store a file of `adding` bytes."""
        check_limit(session.connection(), user_id, self.max_bytes, adding=adding)
        if files.count(session, user_id, self.max_files) >= self.max_files:
            raise TooManyFiles(f"You have {self.max_files} files, which is the limit; delete some of them first.")


def missing() -> NotFound:
    """Return the error for a file that does not exist or belongs to another user."""
    return NotFound("There is no such file.")


def page(
    user_id: UUID, *, project_id: UUID | None = None, after: tuple[UUID] | None = None, limit: int
) -> Sequence[File]:
    """Return a page, newest first, and one item more if there is a next page. An unknown project has no files."""
    with autocommit_session() as session:
        return files.page(session, user_id, project_id=project_id, after=after[0] if after else None, limit=limit + 1)


def get(user_id: UUID, file_id: UUID) -> tuple[File, str]:
    """Return a file and the name of its object. Raises `NotFound`."""
    with autocommit_session() as session:
        found = files.get(session, user_id, file_id)
    if found is None:
        raise missing()
    return found


def check_limits(user_id: UUID, limits: FileLimits, adding: int) -> None:
    """Raise `StorageLimitReached` or `TooManyFiles` before an upload of `adding` bytes is read."""
    with autocommit_session() as session:
        limits.check(session, user_id, adding)


def add(
    user_id: UUID,
    content: StoredContent,
    limits: FileLimits,
    *,
    name: str,
    media_type: str,
    project_id: UUID | None,
    once: bool,
) -> tuple[File, str, bool]:
    """Store the row of a file. Return it, the object that holds its content, and whether the file is new.

    The object is another one if the user has that content already. With `once`, a file with the same content, name and
    project is returned instead of a second one. Raises `NotFound` for the project, `StorageLimitReached` and
    `TooManyFiles`.
    """
    with transaction() as session:
        limits.check(session, user_id, content.bytes)
        object_ = files.add_content(
            session, user_id, {"sha256": content.sha256, "bytes": content.bytes, "object": content.object}
        )
        if once:
            # The lock of the content orders equal uploads.
            equal = files.equal(session, user_id, sha256=content.sha256, name=name, project_id=project_id)
            if equal is not None:
                return equal, object_, False
        values = {"project_id": project_id, "name": name, "media_type": media_type}
        file = files.add(session, user_id, {**values, "bytes": content.bytes, "sha256": content.sha256})
        files.set_text(file, files.add_text(session, file) if has_text(media_type) else None)
        return file, object_, True


def delete(user_id: UUID, file_id: UUID) -> None:
    """Delete a file, and its content if no other file has it. A job deletes the object.

    Raises `NotFound`, and `UserHeld` while a legal hold is on one of the user's conversations.
    """
    with autocommit_session() as session:
        sha256 = files.remove(session, user_id, file_id)
    if sha256 is None:
        get(user_id, file_id)
        raise UserHeld("A legal hold keeps the files of this account.")
    remove_unused(user_id, sha256)


def remove_unused(user_id: UUID, sha256: str) -> bool:
    """Delete a content that no file has; return whether it was deleted. An upload that begins to use it keeps it."""
    with autocommit() as connection:
        try:
            return files.REMOVE_UNUSED.run(connection, {"user_id": user_id, "sha256": sha256}) == 1
        except IntegrityError:
            return False
