"""Export of a conversation as JSON, which can be imported again, or as Markdown.

Messages are read in pages, each by a short statement: no connection is held while the client reads, and only one page
is in memory. The export contains the messages of its start, and no later ones. If some of them are deleted during the
export, the document is cut off and does not look complete.
"""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

import regex
from sqlalchemy import Engine, Row

from app.database import autocommit_engine, current_engine
from app.encoding import encode_json, encode_json_line
from app.errors import Conflict, NotFound
from app.repositories import exports as sql
from app.services import archives, markdown
from app.services.bundles import BundledMessage

VERSION = 1  # of the JSON format
_PAGE_MESSAGES = 200
_PAGE_BYTES = 1_000_000  # a page ends with the message that exceeds it
_TRIES = 3  # to read the messages from the live table and from a bundle
_SLUG_CHARS = 50  # of the title in a file name


@dataclass(frozen=True)
class Export:
    """A conversation as it was at `exported_at`. Can be read once."""

    engine: Engine = field(repr=False)
    user_id: UUID
    conversation: Row[Any]
    exported_at: datetime

    def pages(self) -> Iterator[Sequence[Row[Any] | BundledMessage]]:
        """Yield the messages in order, in pages. Raises `Conflict` if some were deleted, and `ArchiveDamaged`.

        A conversation may be bundled or restored during the export, so both places are read, several times if needed.
        """
        after, missing = 0, self.conversation.message_count
        for _ in range(_TRIES):
            while page := self._page(after) if missing > 0 else ():
                yield page
                after, missing = page[-1].position, missing - len(page)
            for bundled_page in self._bundled(after, missing):
                yield bundled_page
                missing -= len(bundled_page)
            if missing == 0:
                return
        raise Conflict("Messages of this conversation were deleted during the export; export it again.")

    def _bundled(self, after: int, missing: int) -> Iterator[Sequence[BundledMessage]]:
        """Yield the next messages in pages if they are in a bundle."""
        if missing == 0:
            return
        with self.engine.connect() as connection:
            bundle = archives.find(connection, self.user_id, self.conversation.id)
        messages = islice(archives.messages(bundle, after), missing) if bundle else iter(())
        while page := list(islice(messages, _PAGE_MESSAGES)):
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
        """Return a file name with the letters and digits of the title, in any script."""
        title = unicodedata.normalize("NFC", self.conversation.title or "")
        slug = regex.sub(r"[^\p{L}\p{M}\p{N}]+", "-", title)[:_SLUG_CHARS].strip("-")
        return f"conversation-{slug or self.conversation.id}.{extension}"


def open_export(user_id: UUID, conversation_id: UUID, engine: Engine | None = None) -> Export:
    """Start the export of a conversation. Raises `NotFound`.

    Outside of an application context, `engine` must be given, in AUTOCOMMIT.
    """
    engine = engine or autocommit_engine(current_engine())
    with engine.connect() as connection:
        row = sql.OPEN.one(connection, {"user_id": user_id, "conversation_id": conversation_id})
    if row is None:
        raise NotFound("There is no such conversation.")
    return Export(engine, user_id, row, datetime.now(UTC))


def as_json(export: Export) -> Iterator[bytes]:
    """Yield a JSON document in pieces; it is valid only with the last one. Raises the errors of `Export.pages`."""
    conversation = export.conversation._asdict()
    del conversation["next_position"]  # internal
    head = {"version": VERSION, "exported_at": export.exported_at, "conversation": conversation}
    piece = encode_json(head)[:-1] + b',"messages":['
    separator = b"\n"
    for page in export.pages():
        for message in page:
            piece += separator + encode_json_line(message._asdict())
            separator = b",\n"
        yield piece
        piece = b""
    yield piece + b"\n]}\n"


def as_markdown(export: Export) -> Iterator[bytes]:
    """Yield the conversation as Markdown in pieces; the last one has an end mark. Raises as `as_json`."""
    piece = markdown.head(export.conversation, export.exported_at)
    for page in export.pages():
        yield "".join([piece, *(markdown.message(message) for message in page)]).encode()
        piece = ""
    yield f"{piece}{markdown.END}".encode()


@dataclass(frozen=True, slots=True)
class Format:
    """A format of exports: its writer, media type and file extension."""

    write: Callable[[Export], Iterator[bytes]]
    media_type: str
    extension: str


FORMATS = {
    "json": Format(as_json, "application/json", "json"),
    "markdown": Format(as_markdown, "text/markdown; charset=utf-8", "md"),
}
