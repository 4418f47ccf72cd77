"""Everything that a person has, as one ZIP file of JSON: what they may ask for."""

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Table

from app.errors import InvalidInput
from app.repositories import accounts as sql
from app.repositories.statement import Statement
from app.services.exports import as_json, open_export
from ops.accounts import people
from ops.accounts.tables import OWNER, owned_tables
from ops.care.batches import autocommit
from ops.progress import progress

VERSION = 1
_PAGE = 500  # rows
# What opens something, or is made of a secret: of no use to the person, and of use to a thief.
SECRETS = {"password_hash", "refresh_hash", "previous_refresh_hash", "key_hash", "request_hash"}
# What is not told row by row, and where it is instead.
ELSEWHERE = {
    "messages": "each conversation's document has them",
    "conversation_archives": "the conversations' documents have what is in the bundles",
    "conversation_search": "words of the messages, made from them",
    "turn_events": "pieces of the messages, kept for hours",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What the file at `path` holds: rows by table, and a document for each conversation."""

    account_id: UUID
    path: str
    bytes: int
    rows: dict[str, int]
    conversations: int


def export_account(*, user_id: UUID, path: Path) -> Exported:
    """Write the file, whole or not at all, readable by its owner only; each page is a short statement of its own.

    Raises `NotFound`; `InvalidInput` for a path that exists or cannot be written; what an export of a conversation
    raises. What changes meanwhile is told as it was when its turn came.
    """
    account = people.find(user_id=user_id)
    if path.exists():
        raise InvalidInput(f"{path} exists already; choose another name.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInput(f"{path.parent} cannot be written to: {error.strerror}.") from None
    try:
        with os.fdopen(descriptor, "wb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
            exported = _write(archive, user_id, account)
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    rows, conversations = exported
    return Exported(
        account_id=user_id, path=str(path), bytes=path.stat().st_size, rows=rows, conversations=conversations
    )


def _write(archive: zipfile.ZipFile, user_id: UUID, account: people.Person) -> tuple[dict[str, int], int]:
    rows: dict[str, int] = {}
    archive.writestr("account.json", orjson.dumps(account, option=orjson.OPT_INDENT_2))
    for table in owned_tables():
        name = str(table.name)  # SQLAlchemy's own kind of string is none to orjson
        if name not in ELSEWHERE:
            with archive.open(f"{name}.jsonl", "w") as file:
                rows[name] = 0
                for row in _rows(table, user_id):
                    file.write(orjson.dumps(row) + b"\n")
                    rows[name] += 1
    conversations = 0
    with progress("Exporting", total=rows.get("conversations"), unit="conversations") as bar:
        for conversation_id in _conversations(user_id):
            with archive.open(f"conversations/{conversation_id}.json", "w") as file:
                for piece in as_json(open_export(user_id, conversation_id)):
                    file.write(piece)
            conversations += 1
            bar.advance()
    manifest = {
        "version": VERSION,
        "account_id": user_id,
        "exported_at": datetime.now(UTC),
        "rows": rows,
        "conversations": conversations,
        "left_out": {**ELSEWHERE, "secrets": f"the columns {', '.join(sorted(SECRETS))}"},
    }
    archive.writestr("manifest.json", orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return rows, conversations


def _conversations(user_id: UUID) -> Iterator[UUID]:
    after = None
    while True:
        with autocommit() as connection:
            page = sql.CONVERSATIONS.all(connection, {"user_id": user_id, "after": after, "limit": _PAGE})
        for row in page:
            yield row.id
        if len(page) < _PAGE:
            return
        after = page[-1].id


def _rows(table: Table, user_id: UUID) -> Iterator[dict[str, Any]]:
    """In the order of the primary key, a page at a time."""
    keys = [column.name for column in table.primary_key if column.name != OWNER]
    after: Sequence[Any] | None = None
    while True:
        parameters: dict[str, Any] = {"user_id": user_id, "limit": _PAGE}
        parameters |= {f"after_{number}": value for number, value in enumerate(after or ())}
        with autocommit() as connection:
            page = _page(table, keys, first=after is None).all(connection, parameters)
        for row in page:
            yield {name: value for name, value in row.told.items() if name not in SECRETS}
        if len(page) < _PAGE or not keys:
            return
        after = [row._mapping[f"key_{number}"] for number in range(len(keys))]


def _page(table: Table, keys: Sequence[str], *, first: bool) -> Statement:
    """Names are identifiers of our own models; values travel as parameters."""
    names = ", ".join(f'"{key}"' for key in keys)
    told = "".join(f', "{key}" AS key_{number}' for number, key in enumerate(keys))
    places = ", ".join(f"%(after_{number})s" for number in range(len(keys)))
    beyond = "" if first else f" AND ({names}) > ({places})"
    order = f" ORDER BY {names}" if keys else ""
    return Statement(
        f"accounts.export_{table.name}",
        f'SELECT to_jsonb(t) AS told{told} FROM "{table.name}" AS t'  # noqa: S608
        f" WHERE {OWNER} = %(user_id)s{beyond}{order} LIMIT %(limit)s",
    )
