"""One conversation's messages as one compressed, checksummed document, and back to the last byte.

    {"bundle": 1, "user_id": ..., "conversation_id": ..., "messages": 2}
    [1, "user", "Hello", null, null, "{}", "0198...", 1767225601000000]
    [2, "assistant", ...

One line of JSON each, compressed as a whole with zstd: position, role, content, tool calls and metadata (JSON as text),
the id of the tool call, the turn, and the time in microseconds. The SHA-256 is of the lines; they name their
conversation, so a bundle in another's place is found as well. Lines are made and read one after another: what is in
memory at a time is the compressed bundle and some lines.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any, Literal, NamedTuple
from uuid import UUID

import orjson
import zstandard
from sqlalchemy import Row

from app.errors import ArchiveDamaged

VERSION = 1
_LEVEL = 3  # of zstd: the next ones cost twice the time and save a few percent
_CHUNK = 1_048_576  # bytes
_WINDOW = 2**23  # bytes that a decompressor may ask for; our level's need a quarter of it
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle; `sha256` and `plain_bytes` are of what is in it."""

    user_id: UUID
    conversation_id: UUID
    message_count: int
    plain_bytes: int
    sha256: bytes
    data: bytes = field(repr=False)


class BundledMessage(NamedTuple):
    """A message as the database had it."""

    position: int
    role: str
    content: str | None
    tool_calls: list[dict[str, Any]] | None
    tool_call_id: str | None
    metadata: dict[str, Any]
    turn_id: UUID | None
    created_at: datetime


class Writer:
    """Makes one bundle of messages that come in the order of their positions."""

    def __init__(
        self, user_id: UUID, conversation_id: UUID, expected: int, compressor: zstandard.ZstdCompressor
    ) -> None:
        """`expected` is the number of messages that the conversation says it has.

        Writers one after another may share a `compressor`: to make one takes longer than to compress a conversation.
        """
        self.user_id, self.conversation_id, self.expected = user_id, conversation_id, expected
        self.messages = 0
        self._compressor = compressor
        self._stream: Any = None  # once there is more than fits into memory lightly
        self._lines = [_head(user_id, conversation_id, expected)]
        self._held = self._bytes = 0
        self._hash = hashlib.sha256()
        self._pieces: list[bytes] = []

    def add(self, row: Sequence[Any]) -> None:
        """The next message: position, role, ... as `archives.messages` gives them."""
        self.messages += 1
        line = orjson.dumps(row)
        self._lines.append(line)
        self._held += len(line)
        if self._held > _CHUNK:
            self._stream = self._stream or new_compressor().compressobj()
            self._pieces.append(self._stream.compress(self._take()))

    def close(self) -> Bundle:
        """The bundle, after the last message."""
        if self._stream is None:
            self._pieces.append(self._compressor.compress(self._take()))
        else:
            self._pieces += [self._stream.compress(self._take()), self._stream.flush()]
        return Bundle(
            self.user_id,
            self.conversation_id,
            self.messages,
            self._bytes,
            self._hash.digest(),
            b"".join(self._pieces),
        )

    def _take(self) -> bytes:
        """The lines that have come since the last time."""
        plain = b"".join([line + b"\n" for line in self._lines])
        self._lines, self._held = [], 0
        self._hash.update(plain)
        self._bytes += len(plain)
        return plain


def new_compressor() -> zstandard.ZstdCompressor:
    """For one thread."""
    return zstandard.ZstdCompressor(level=_LEVEL)


def stored(row: Row[Any]) -> Bundle:
    """The bundle in a row of `conversation_archives`."""
    return Bundle(
        row.user_id, row.conversation_id, row.message_count, row.plain_bytes, bytes(row.sha256), bytes(row.bundle)
    )


def verify(bundle: Bundle) -> None:
    """Read all of it. Raises `ArchiveDamaged` where anything is not as it was stored."""
    digest, count = hashlib.sha256(), -1
    try:
        for chunk in _plain(bundle):
            digest.update(chunk)
            count += chunk.count(b"\n")
    except zstandard.ZstdError:
        raise _damaged("it cannot be decompressed") from None
    if digest.digest() != bundle.sha256:
        raise _damaged("its checksum is another")
    if count != bundle.message_count:
        raise _damaged(f"it holds {count} messages, not {bundle.message_count}")


def lines(bundle: Bundle) -> Iterator[bytes]:
    """The lines of its messages, after `verify`: of a damaged bundle nothing may be made."""
    remainder, head = b"", True
    for chunk in _plain(bundle):
        *whole, remainder = (remainder + chunk).split(b"\n")
        yield from whole[1:] if head and whole else whole
        head = head and not whole


def page(bundle: Bundle, *, order: Literal["asc", "desc"], after: int | None, limit: int) -> list[BundledMessage]:
    """Up to `limit` messages after that position, in this order. Raises `ArchiveDamaged`."""
    verify(bundle)
    if order == "desc":
        before = takewhile(lambda line: after is None or _position(line) < after, lines(bundle))
        return [message(line) for line in reversed(deque(before, maxlen=limit))]
    beyond = (line for line in lines(bundle) if _position(line) > (after or 0))
    return [message(line) for line in islice(beyond, limit)]


def messages(bundle: Bundle, after: int) -> Iterator[BundledMessage]:
    """The messages after that position, to be read at leisure. Raises `ArchiveDamaged` before the first of them."""
    verify(bundle)
    return (message(line) for line in lines(bundle) if _position(line) > after)


def message(line: bytes) -> BundledMessage:
    """What a line says."""
    position, role, content, tool_calls, tool_call_id, metadata, turn_id, microseconds = orjson.loads(line)
    return BundledMessage(
        position,
        role,
        content,
        orjson.loads(tool_calls) if tool_calls is not None else None,
        tool_call_id,
        orjson.loads(metadata),
        UUID(turn_id) if turn_id is not None else None,
        _EPOCH + timedelta(microseconds=microseconds),
    )


def _head(user_id: UUID, conversation_id: UUID, count: int) -> bytes:
    return orjson.dumps({"bundle": VERSION, "user_id": user_id, "conversation_id": conversation_id, "messages": count})


def _position(line: bytes) -> int:
    return int(line[1 : line.index(b",")])


def _plain(bundle: Bundle) -> Iterator[bytes]:
    """The bytes in it, its own head first; no more than it says that it holds."""
    head = _head(bundle.user_id, bundle.conversation_id, bundle.message_count)
    with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(bundle.data) as reader:
        found = reader.read(len(head))
        if found != head:
            raise _damaged("it is of another conversation, or of a newer version")
        yield found
        left = bundle.plain_bytes - len(head)
        while left > 0 and (chunk := reader.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk
        if left or reader.read(1):
            raise _damaged("it is longer or shorter than it was")


def _damaged(why: str) -> ArchiveDamaged:
    error = ArchiveDamaged()
    error.why = why
    return error
