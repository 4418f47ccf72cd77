"""The bundle of a conversation: its messages as one compressed, checksummed document, without any loss.

    {"bundle": 1, "user_id": ..., "conversation_id": ..., "messages": 2}
    [1, "user", "Hello", null, null, "{}", "0198...", 1767225601000000]
    [2, "assistant", ...

One line of JSON each, compressed as a whole with zstd: position, role, content, tool calls and metadata (JSON as text),
tool call id, turn id, and the time in microseconds. The SHA-256 is of the lines. They contain the conversation's id, so
a swapped bundle is detected too. Lines are written and read one after another: only the compressed bundle and some
lines are in memory at a time.
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
_LEVEL = 3  # of zstd: higher ones take twice the time and save a few percent
_CHUNK = 1_048_576  # bytes
_WINDOW = 2**23  # bytes that the decompressor may allocate; this level needs a quarter of it
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle. `sha256` and `plain_bytes` are of the decompressed lines."""

    user_id: UUID
    conversation_id: UUID
    message_count: int
    plain_bytes: int
    sha256: bytes
    data: bytes = field(repr=False)


class BundledMessage(NamedTuple):
    """A message as it was in the database."""

    position: int
    role: str
    content: str | None
    tool_calls: list[dict[str, Any]] | None
    tool_call_id: str | None
    metadata: dict[str, Any]
    turn_id: UUID | None
    created_at: datetime


class Writer:
    """Makes one bundle of messages, added in the order of their positions."""

    def __init__(
        self, user_id: UUID, conversation_id: UUID, expected: int, compressor: zstandard.ZstdCompressor
    ) -> None:
        """Start a bundle. `expected` is the conversation's number of messages.

        Consecutive writers may share a `compressor`: making one takes longer than compressing a conversation.
        """
        self.user_id, self.conversation_id, self.expected = user_id, conversation_id, expected
        self.messages = 0
        self._compressor = compressor
        self._stream: Any = None  # used after the first _CHUNK bytes
        self._lines = [_head(user_id, conversation_id, expected)]
        self._pending_bytes = self._bytes = 0
        self._hash = hashlib.sha256()
        self._pieces: list[bytes] = []

    def add(self, row: Sequence[Any]) -> None:
        """Add the next message: position, role, ... as the statement `archives.messages` returns them."""
        self.messages += 1
        line = orjson.dumps(row)
        self._lines.append(line)
        self._pending_bytes += len(line)
        if self._pending_bytes > _CHUNK:
            self._stream = self._stream or new_compressor().compressobj()
            self._pieces.append(self._stream.compress(self._flush_lines()))

    def close(self) -> Bundle:
        """Return the bundle, after the last message."""
        if self._stream is None:
            self._pieces.append(self._compressor.compress(self._flush_lines()))
        else:
            self._pieces += [self._stream.compress(self._flush_lines()), self._stream.flush()]
        return Bundle(
            self.user_id,
            self.conversation_id,
            self.messages,
            self._bytes,
            self._hash.digest(),
            b"".join(self._pieces),
        )

    def _flush_lines(self) -> bytes:
        """Hash and return the lines added since the last call."""
        plain = b"".join([line + b"\n" for line in self._lines])
        self._lines, self._pending_bytes = [], 0
        self._hash.update(plain)
        self._bytes += len(plain)
        return plain


def new_compressor() -> zstandard.ZstdCompressor:
    """Return a compressor for one thread."""
    return zstandard.ZstdCompressor(level=_LEVEL)


def from_row(row: Row[Any]) -> Bundle:
    """Return the bundle in a row of `conversation_archives`."""
    return Bundle(
        row.user_id, row.conversation_id, row.message_count, row.plain_bytes, bytes(row.sha256), bytes(row.bundle)
    )


def verify(bundle: Bundle) -> None:
    """Read the complete bundle. Raises `ArchiveDamaged` if anything differs from what was stored."""
    digest, count = hashlib.sha256(), -1
    try:
        for chunk in _plain(bundle):
            digest.update(chunk)
            count += chunk.count(b"\n")
    except zstandard.ZstdError:
        raise _damaged("it cannot be decompressed") from None
    if digest.digest() != bundle.sha256:
        raise _damaged("its checksum does not match")
    if count != bundle.message_count:
        raise _damaged(f"it has {count} messages, not {bundle.message_count}")


def lines(bundle: Bundle) -> Iterator[bytes]:
    """Yield the lines of its messages. Call `verify` first: a damaged bundle must not be used."""
    remainder, head = b"", True
    for chunk in _plain(bundle):
        *complete, remainder = (remainder + chunk).split(b"\n")
        yield from complete[1:] if head and complete else complete
        head = head and not complete


def page(bundle: Bundle, *, order: Literal["asc", "desc"], after: int | None, limit: int) -> list[BundledMessage]:
    """Return up to `limit` messages after that position, in this order. Raises `ArchiveDamaged`."""
    verify(bundle)
    if order == "desc":
        before = takewhile(lambda line: after is None or _position(line) < after, lines(bundle))
        return [message(line) for line in reversed(deque(before, maxlen=limit))]
    following = (line for line in lines(bundle) if _position(line) > (after or 0))
    return [message(line) for line in islice(following, limit)]


def messages(bundle: Bundle, after: int) -> Iterator[BundledMessage]:
    """Return an iterator of the messages after that position. Raises `ArchiveDamaged` before the first."""
    verify(bundle)
    return (message(line) for line in lines(bundle) if _position(line) > after)


def message(line: bytes) -> BundledMessage:
    """Return the message of a line."""
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
    """Yield the decompressed bytes, starting with the head, at most as many as the bundle declares."""
    head = _head(bundle.user_id, bundle.conversation_id, bundle.message_count)
    with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(bundle.data) as reader:
        actual_head = reader.read(len(head))
        if actual_head != head:
            raise _damaged("it belongs to another conversation or a newer version")
        yield actual_head
        remaining = bundle.plain_bytes - len(head)
        while remaining > 0 and (chunk := reader.read(min(_CHUNK, remaining))):
            remaining -= len(chunk)
            yield chunk
        if remaining or reader.read(1):
            raise _damaged("its size does not match")


def _damaged(reason: str) -> ArchiveDamaged:
    error = ArchiveDamaged()
    error.reason = reason
    return error
