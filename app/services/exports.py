"""A conversation as a document: JSON, which can be imported again, or Markdown.

It is read in pages, each a short statement of its own: no connection is held while the receiver takes its time, and no
more than a page is in memory. What was there when the export began is told, and nothing that came later. Where that
is no longer possible the document is broken off, and never looks complete.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine, Row

from app.errors import Conflict, NotFound
from app.extensions import db
from app.repositories import exports as sql
from app.services import archives, markdown
from app.services.bundles import BundledMessage

VERSION = 1  # of the JSON document
_PAGE_MESSAGES = 200
_PAGE_BYTES = 1_000_000  # a page goes on until a message begins beyond
_LOOKS = 3  # for the messages, in the live table and in a bundle
_SLUG = 50  # characters of the title in a file's name


@dataclass(frozen=True)
class Export:
    """A conversation as it was at `exported_at`, to be read once, whenever the receiver is ready."""

    engine: Engine = field(repr=False)
    user_id: UUID
    conversation: Row[Any]
    exported_at: datetime

    def pages(self) -> Iterator[Sequence[Row[Any] | BundledMessage]]:
        """The messages in order, wherever they are. Raises `Conflict` where some are no longer there, `ArchiveDamaged`.

        A conversation may be archived meanwhile, or restored: so they are looked for in both places, and once more.
        """
        after, missing = 0, self.conversation.message_count
        for _ in range(_LOOKS):
            while page := self._page(after) if missing > 0 else ():
                yield page
                after, missing = page[-1].position, missing - len(page)
            for bundled in self._bundled(after, missing):
                yield bundled
                missing -= len(bundled)
            if missing == 0:
                return
        raise Conflict("Messages of this conversation went away while it was exported; export it again.")

    def _bundled(self, after: int, missing: int) -> Iterator[Sequence[BundledMessage]]:
        """The next messages, if they are in a bundle."""
        if missing == 0:
            return
        with self.engine.connect() as connection:
            bundle = archives.find(connection, self.user_id, self.conversation.id)
        told = islice(archives.messages(bundle, after), missing) if bundle else iter(())
        while page := list(islice(told, _PAGE_MESSAGES)):
            yield page

    def _page(self, after: int) -> Sequence[Row[Any]]:
        parameters = {
            "user_id": self.user_id,
            "conversation_id": self.conversation.id,
            "after": after,
            "end": self.conversation.next_position,
            "messages": _PAGE_MESSAGES,
            "bytes": _PAGE_BYTES,
        }
        with self.engine.connect() as connection:
            return sql.PAGE.all(connection, parameters)

    def filename(self, extension: str) -> str:
        """A name of plain characters that says what it is, by the title where that has such characters."""
        plain = unicodedata.normalize("NFKD", self.conversation.title or "").encode("ascii", "ignore").decode()
        slug = re.sub(r"[^A-Za-z0-9]+", "-", plain)[:_SLUG].strip("-")
        return f"conversation-{slug or self.conversation.id}.{extension}"


def open_export(user_id: UUID, conversation_id: UUID, engine: Engine | None = None) -> Export:
    """Begin to export a conversation, outside of the application's context by an `engine` in AUTOCOMMIT.

    Raises `NotFound`.
    """
    engine = engine or db.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        row = sql.OPEN.one(connection, {"user_id": user_id, "conversation_id": conversation_id})
    if row is None:
        raise NotFound("There is no such conversation.")
    return Export(engine, user_id, row, datetime.now(UTC))


def as_json(export: Export) -> Iterator[bytes]:
    """One JSON document, in pieces; without the last piece it is none. Raises what `Export.pages` raises."""
    conversation = export.conversation._asdict()
    del conversation["next_position"]  # ours, and one more than the count
    head = {"version": VERSION, "exported_at": export.exported_at, "conversation": conversation}
    piece = orjson.dumps(head)[:-1] + b',"messages":['
    separator = b"\n"
    for page in export.pages():
        for message in page:
            piece += separator + orjson.dumps(message._asdict())
            separator = b",\n"
        yield piece
        piece = b""
    yield piece + b"\n]}\n"


def as_markdown(export: Export) -> Iterator[bytes]:
    """The conversation for a person to read, in pieces; the last one says that it is the last. Raises likewise."""
    piece = markdown.head(export.conversation, export.exported_at)
    for page in export.pages():
        yield "".join([piece, *(markdown.message(message) for message in page)]).encode()
        piece = ""
    yield f"{piece}{markdown.END}".encode()


@dataclass(frozen=True, slots=True)
class Format:
    """How a document is written, what it is in HTTP, and how its file's name ends."""

    write: Callable[[Export], Iterator[bytes]]
    media_type: str
    extension: str


FORMATS = {
    "json": Format(as_json, "application/json", "json"),
    "markdown": Format(as_markdown, "text/markdown; charset=utf-8", "md"),
}
