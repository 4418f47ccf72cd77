"""References to files in the metadata of messages. They stay when a file is deleted, with its name at that time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from app.repositories import turn_files as sql

FIELD = "files"  # of a message's metadata
MAX_ATTACHED = 10  # files of one message
_NAME_CHARS, _TYPE_CHARS = 255, 100


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file that was attached to a message."""

    id: UUID
    name: str
    media_type: str


def read_references(connection: Connection, user_id: UUID, file_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """Return the metadata of those of these files that the user has, in the given order."""
    rows = sql.REFERENCES.all(connection, {"user_id": user_id, "file_ids": list(file_ids)})
    return [{"id": str(row.id), "name": row.name, "media_type": row.media_type, "sha256": row.sha256} for row in rows]


def parse_references(value: Any) -> list[FileReference]:
    """Return the references in a stored value. An imported message may have any value there."""
    items = value if isinstance(value, list) else []
    parsed = (_parse(item) for item in items[:MAX_ATTACHED])
    return [reference for reference in parsed if reference is not None]


def _parse(item: Any) -> FileReference | None:
    if not isinstance(item, dict):
        return None
    file_id, name, media_type = item.get("id"), item.get("name"), item.get("media_type")
    if not (isinstance(file_id, str) and isinstance(name, str) and isinstance(media_type, str)):
        return None
    try:
        return FileReference(UUID(file_id), name[:_NAME_CHARS], media_type[:_TYPE_CHARS])
    except ValueError:
        return None
