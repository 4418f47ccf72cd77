"""Everything that a person has, as a file; `app/services/account_exports.py` knows what is in it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from app.errors import InvalidInput
from app.services.account_exports import AccountExport
from ops.progress import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What the file at `path` holds: rows by table, and a document for each conversation but those `unread`."""

    account_id: UUID
    path: str
    bytes: int
    rows: Mapping[str, int]
    conversations: int
    unread: Mapping[str, str]


def write_account(export: AccountExport, *, path: Path) -> Exported:
    """Write the file, whole or not at all, readable by its owner only.

    Raises `InvalidInput` for a path that exists or cannot be written, and what reading the account raises.
    """
    if path.exists():
        raise InvalidInput(f"{path} exists already; choose another name.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInput(f"{path.parent} cannot be written to: {error.strerror}.") from None
    try:
        with (
            os.fdopen(descriptor, "wb") as file,
            progress("Exporting", total=export.account["conversations"], unit="conversations") as bar,
        ):
            told = 0
            for piece in export.pieces():
                file.write(piece)
                bar.advance(export.conversations - told)
                told = export.conversations
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return Exported(
        account_id=export.user_id,
        path=str(path),
        bytes=path.stat().st_size,
        rows=export.rows,
        conversations=export.conversations,
        unread=export.unread,
    )
