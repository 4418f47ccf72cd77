"""Writing a user's data to a file; `app/services/user_exports.py` produces the contents."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from app.errors import InvalidInput
from app.services.user_exports import UserExport
from ops.runs.progress import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class UserExportReport:
    """The file at `path`: rows by table, and one document per conversation, except the `unread` ones (id: reason).

    `file_contents` counts the contents of files in it, except the `unread_files` (SHA-256: reason).
    """

    user_id: UUID
    path: str
    bytes: int
    rows: Mapping[str, int]
    conversations: int
    unread: Mapping[str, str]
    file_contents: int = 0
    unread_files: Mapping[str, str] = field(default_factory=dict)


def write_user_export(export: UserExport, *, path: Path) -> UserExportReport:
    """Write the export to a new file with mode 0600. The file appears only when it is complete.

    Raises `InvalidInput` for a path that exists or cannot be written, and the errors of reading the data.
    """
    if path.exists():
        raise InvalidInput(f"{path} already exists; choose another name.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInput(f"Cannot write to {path.parent}: {error.strerror}.") from None
    try:
        with (
            os.fdopen(descriptor, "wb") as file,
            progress("Exporting", total=export.account["conversations"], unit="conversations") as bar,
        ):
            reported = 0
            for chunk in export.pieces():
                file.write(chunk)
                bar.advance(export.conversations - reported)
                reported = export.conversations
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return UserExportReport(
        user_id=export.user_id,
        path=str(path),
        bytes=path.stat().st_size,
        rows=export.rows,
        conversations=export.conversations,
        unread=export.unread,
        file_contents=export.files.written,
        unread_files=export.files.unread,
    )
