"""Export of all data of a user as one ZIP file: JSON, and the contents of files.

Rows are read in pages, each by a short statement, and written piece by piece: no connection is held while the client
reads, and only one page is in memory. A row that changes during the export has its value of the time of its page. A
truncated file has no directory at its end, so it cannot be opened as if it were complete.
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any, cast
from uuid import UUID

import orjson
from sqlalchemy import Engine, Table

from app.database import autocommit_engine, current_engine
from app.encoding import encode_json_line
from app.errors import ArchiveDamaged, Conflict, NotFound
from app.models import FileContent
from app.repositories import user_admin as sql
from app.repositories.owned import key_of, next_rows, owned_tables
from app.services.exported_files import ExportedFiles
from app.services.exports import as_json, open_export
from app.storage.base import Store

VERSION = 1
_PAGE = 500  # rows
_PIECE = 65_536  # bytes at least, except for the last piece
_LEVEL = 1  # of compression, which blocks other requests of a web worker
# Columns that give access or are derived from a secret.
SECRETS = {
    "password_hash",
    "refresh_hash",
    "previous_refresh_hash",
    "first_successor_hash",
    "key_hash",
    "token_hash",
    "request_hash",
}
DERIVED = {"search_document", "search_rules"}  # columns that are made from others
# Tables that are not exported as rows, with the reason.
NOT_AS_ROWS = {
    "messages": "they are in the document of each conversation",
    "conversation_archives": "the messages of bundles are in the documents of the conversations",
    "conversation_search": "terms of the titles, made from them",
    "search_documents": "terms of the messages, made from them",
    "file_passages": "texts of the files, made from them",
    "turn_events": "pieces of the messages, kept for some hours",
}


class UserExport:
    """The export of one user. Can be read once.

    Counts while it is read: `rows` by table, `conversations` with a document, and `unread` ones with the reason; the
    same of the contents of `files`.
    """

    def __init__(
        self, engine: Engine, user_id: UUID, account: Mapping[str, Any], open_files: Callable[[], Store]
    ) -> None:
        self.user_id, self.account = user_id, account
        self.rows: dict[str, int] = {}
        self.conversations = 0
        self.unread: dict[str, str] = {}
        self.files = ExportedFiles(open_files)
        self._engine = engine

    @property
    def filename(self) -> str:
        """The file name."""
        return f"parley-{self.user_id}.zip"

    def pieces(self) -> Iterator[bytes]:
        """Yield the ZIP file in pieces."""
        sink = _Sink()
        with zipfile.ZipFile(cast(IO[bytes], sink), "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
            archive.writestr("account.json", orjson.dumps(self.account, option=orjson.OPT_INDENT_2))
            for _ in self._contents(archive):
                if sink.size >= _PIECE:
                    yield sink.take()
            archive.writestr("manifest.json", orjson.dumps(self._manifest(), option=orjson.OPT_INDENT_2))
        yield sink.take()

    def _contents(self, archive: zipfile.ZipFile) -> Iterator[None]:
        """Write all entries, and yield at each point at which the written bytes can be sent."""
        for table in owned_tables():
            name = str(table.name)  # orjson does not accept SQLAlchemy's subclass of str
            if name not in NOT_AS_ROWS:
                self.rows[name] = 0
                with archive.open(f"{name}.jsonl", "w", force_zip64=True) as file:
                    for row in self._rows(table):
                        file.write(encode_json_line(row) + b"\n")
                        self.rows[name] += 1
                        yield
        for conversation_id in self._conversation_ids():
            try:
                document = as_json(open_export(self.user_id, conversation_id, self._engine))
                piece = next(document)
            except NotFound:
                continue  # deleted after its page was read
            except ArchiveDamaged as error:
                self.unread[str(conversation_id)] = error.detail
                continue
            with archive.open(f"conversations/{conversation_id}.json", "w", force_zip64=True) as file:
                file.write(piece)
                yield
                try:
                    for piece in document:
                        file.write(piece)
                        yield
                except (ArchiveDamaged, Conflict) as error:  # damaged or deleted after its start
                    self.unread[str(conversation_id)] = f"{error.detail} Its document is truncated."
                    continue
            self.conversations += 1
        for row in self._rows(cast(Table, FileContent.__table__)):
            yield from self.files.write(archive, row)

    def _manifest(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "account_id": self.user_id,
            "exported_at": datetime.now(UTC),
            "rows": self.rows,
            "conversations": self.conversations,
            "unread": self.unread,
            "file_contents": self.files.written,
            "unread_files": self.files.unread,
            "left_out": {**NOT_AS_ROWS, "secrets": f"the columns {', '.join(sorted(SECRETS))}"},
        }

    def _conversation_ids(self) -> Iterator[UUID]:
        after = None
        while True:
            with self._engine.connect() as connection:
                page = sql.CONVERSATIONS.all(connection, {"user_id": self.user_id, "after": after, "limit": _PAGE})
            for row in page:
                yield row.id
            if len(page) < _PAGE:
                return
            after = page[-1].id

    def _rows(self, table: Table) -> Iterator[dict[str, Any]]:
        keys = len(key_of(table))
        after: Sequence[Any] = ()
        while True:
            parameters = {f"after_{number}": value for number, value in enumerate(after)}
            with self._engine.connect() as connection:
                page = next_rows(table, first=not after).all(
                    connection, {**parameters, "user_id": self.user_id, "limit": _PAGE}
                )
            for row in page:
                yield {name: value for name, value in row.row.items() if name not in SECRETS | DERIVED}
            if len(page) < _PAGE or not keys:
                return
            after = [row._mapping[f"key_{number}"] for row in page[-1:] for number in range(keys)]


def open_user_export(user_id: UUID, open_files: Callable[[], Store]) -> UserExport:
    """Start the export of a user. `open_files` opens the store of files. Raises `NotFound`."""
    engine = autocommit_engine(current_engine())
    with engine.connect() as connection:
        row = sql.FIND.one(connection, {"user_id": user_id})
    if row is None:
        raise NotFound("There is no such account.")
    return UserExport(engine, user_id, {**row._mapping, "messages": int(row.messages)}, open_files)


class _Sink:
    """A sink for `zipfile` that cannot seek; `take` empties it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def take(self) -> bytes:
        """Return the bytes written since the last call."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return taken
