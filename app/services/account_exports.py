"""Everything that a person has, as one ZIP file of JSON: what they may ask for.

It is read in pages, each a short statement of its own, and given away piece by piece: no connection is held while the
receiver takes its time, and no more than a page is in memory. What changes meanwhile is told as it was when its turn
came. A file that was cut off lacks its list of contents, so that nobody takes a part for the whole.
"""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any, cast
from uuid import UUID

import orjson
from sqlalchemy import Engine, Table

from app.errors import ArchiveDamaged, Conflict, NotFound
from app.extensions import db
from app.repositories import accounts as sql
from app.repositories.owned import key_of, next_rows, owned_tables
from app.services.exports import as_json, open_export

VERSION = 1
_PAGE = 500  # rows
_PIECE = 65_536  # bytes, at least, but for the last
_LEVEL = 1  # of compression: in a web worker, others wait meanwhile
# What opens something, or is made of a secret: of no use to the person, and of use to a thief.
SECRETS = {"password_hash", "refresh_hash", "previous_refresh_hash", "key_hash", "request_hash"}
# What is not told row by row, and where it is instead.
ELSEWHERE = {
    "messages": "each conversation's document has them",
    "conversation_archives": "the conversations' documents have what is in the bundles",
    "conversation_search": "words of the messages, made from them",
    "turn_events": "pieces of the messages, kept for hours",
}


class AccountExport:
    """An account to be read once, whenever the receiver is ready.

    While it is read it counts: `rows` by table, `conversations` with a document each, and those `unread`, with why.
    """

    def __init__(self, engine: Engine, user_id: UUID, account: Mapping[str, Any]) -> None:
        self.user_id, self.account = user_id, account
        self.rows: dict[str, int] = {}
        self.conversations = 0
        self.unread: dict[str, str] = {}
        self._engine = engine

    @property
    def filename(self) -> str:
        """A name for the file."""
        return f"parley-{self.user_id}.zip"

    def pieces(self) -> Iterator[bytes]:
        """The file."""
        sink = _Sink()
        with zipfile.ZipFile(cast(IO[bytes], sink), "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
            archive.writestr("account.json", orjson.dumps(self.account, option=orjson.OPT_INDENT_2))
            for _ in self._contents(archive):
                if sink.size >= _PIECE:
                    yield sink.take()
            archive.writestr("manifest.json", orjson.dumps(self._manifest(), option=orjson.OPT_INDENT_2))
        yield sink.take()

    def _contents(self, archive: zipfile.ZipFile) -> Iterator[None]:
        """Writes them, with a pause wherever what is written can be given away."""
        for table in owned_tables():
            name = str(table.name)  # SQLAlchemy's own kind of string is none to orjson
            if name not in ELSEWHERE:
                self.rows[name] = 0
                with archive.open(f"{name}.jsonl", "w", force_zip64=True) as file:
                    for row in self._rows(table):
                        file.write(orjson.dumps(row) + b"\n")
                        self.rows[name] += 1
                        yield
        for conversation_id in self._conversation_ids():
            try:
                document = as_json(open_export(self.user_id, conversation_id, self._engine))
                piece = next(document)
            except NotFound:
                continue  # deleted since the page was read
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
                except (ArchiveDamaged, Conflict) as error:  # damaged, or deleted, further on
                    self.unread[str(conversation_id)] = f"{error.detail} Its document is cut off."
                    continue
            self.conversations += 1

    def _manifest(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "account_id": self.user_id,
            "exported_at": datetime.now(UTC),
            "rows": self.rows,
            "conversations": self.conversations,
            "unread": self.unread,
            "left_out": {**ELSEWHERE, "secrets": f"the columns {', '.join(sorted(SECRETS))}"},
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
                yield {name: value for name, value in row.told.items() if name not in SECRETS}
            if len(page) < _PAGE or not keys:
                return
            after = [row._mapping[f"key_{number}"] for row in page[-1:] for number in range(keys)]


def open_account(user_id: UUID) -> AccountExport:
    """Begin to export an account. Raises `NotFound`."""
    engine = db.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        row = sql.FIND.one(connection, {"user_id": user_id})
    if row is None:
        raise NotFound("There is no such account.")
    return AccountExport(engine, user_id, {**row._mapping, "messages": int(row.messages)})


class _Sink:
    """What `zipfile` writes to: it can go neither back nor on, and is emptied by whoever gives the pieces away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """There is nothing behind it."""

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return taken
