"""Bundled conversations: reading their messages, and restoring them before the conversation is written to.

The archival job is in `ops/archive/`.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.errors import ArchiveDamaged, Locked
from app.lock_waits import waited_for_lock
from app.models import Message
from app.outbound.native_threads import in_native_thread
from app.repositories import archives as sql
from app.repositories.atomic import atomically
from app.services import bundles
from app.services.bundles import Bundle, BundledMessage

_LARGE = 1_000_000  # bytes in a bundle, above which reading it would block other requests of this process
_PAGE = {"rows": 5_000, "bytes": 2_000_000}  # the messages that one statement reads or writes, approximately
T = TypeVar("T")

_log = logging.getLogger("parley.archives")


def find(connection: Connection, user_id: UUID, conversation_id: UUID) -> Bundle | None:
    """Return the conversation's bundle, or None."""
    row = sql.READ.one(connection, {"user_id": user_id, "conversation_id": conversation_id})
    return bundles.from_row(row) if row is not None else None


def page(bundle: Bundle, *, order: Literal["asc", "desc"], after: int | None, limit: int) -> list[Message]:
    """Return a page of its messages, as the live table would. Raises `ArchiveDamaged`."""
    page = _read(bundle, lambda: bundles.page(bundle, order=order, after=after, limit=limit))
    return [_as_row(bundle, message._asdict()) for message in page]


def _as_row(bundle: Bundle, fields: dict[str, Any]) -> Message:
    meta = fields.pop("metadata")
    return Message(user_id=bundle.user_id, conversation_id=bundle.conversation_id, meta=meta, **fields)


def message_at(bundle: Bundle, position: int) -> BundledMessage | None:
    """Return the message at that position, or None. Raises `ArchiveDamaged`."""
    page = _read(bundle, lambda: bundles.page(bundle, order="asc", after=position - 1, limit=1))
    return next((message for message in page if message.position == position), None)


def messages(bundle: Bundle, after: int) -> Iterator[BundledMessage]:
    """Return an iterator of the messages after that position. Raises `ArchiveDamaged` before the first."""
    return _read(bundle, lambda: bundles.messages(bundle, after))


def restore(connection: Connection, user_id: UUID, conversation_id: UUID) -> bool:
    """Restore the messages and the earlier status of a bundled conversation, on an AUTOCOMMIT connection.

    Returns False if it is not bundled or does not exist. Concurrent calls wait for the first one. Raises
    `ArchiveDamaged`, and `Locked` after a lock timeout; nothing has changed then.
    """
    key = {"user_id": user_id, "conversation_id": conversation_id}
    try:
        with atomically(connection):
            if sql.LOCK_BUNDLED.one(connection, key) is None:
                return False
            row = sql.READ.one(connection, key)
            if row is None:
                raise without_bundle(user_id, conversation_id)
            _insert_messages(connection, bundles.from_row(row))
            if sql.REVIVE.run(connection, key) != 1:
                raise RuntimeError("a conversation was not revived although its row is locked")
            sql.COUNT_RESTORED.run(connection, {"run_id": row.run_id})
    except DBAPIError as error:
        if waited_for_lock(error):
            raise Locked.of("conversation") from None
        raise
    return True


def without_bundle(user_id: UUID, conversation_id: UUID) -> ArchiveDamaged:
    """Log and return the error for a bundled conversation that has no bundle."""
    return _logged(ArchiveDamaged(), user_id, conversation_id)


def copy(connection: Connection, conversations: Sequence[tuple[UUID, UUID, int]]) -> list[Bundle]:
    """Make bundles of these conversations (user id, id, number of messages), in the same order.

    A bundle's `message_count` is the number of messages read. The conversations' rows must be locked.
    """
    compressor = bundles.new_compressor()
    writers = [bundles.Writer(*conversation, compressor) for conversation in conversations]
    ordinal = after = 0
    more = bool(writers)
    while more:
        parameters = {**ids_of(conversations), "ordinal": max(ordinal, 1), "after": after, **_PAGE}
        rows: Sequence[Any] = sql.MESSAGES.all(connection, parameters)
        for row in rows:
            ordinal, after = row[0], row[1]
            writers[ordinal - 1].add(row[1:9])
        more = bool(rows) and (rows[-1].examined == _PAGE["rows"] or rows[-1].examined > len(rows))
    return [writer.close() for writer in writers]


def ids_of(conversations: Sequence[tuple[UUID, UUID, int]]) -> dict[str, list[UUID]]:
    """Return the ids of these conversations as parameters of a statement."""
    return {
        "user_ids": [user for user, _, _ in conversations],
        "conversation_ids": [id_ for _, id_, _ in conversations],
    }


def _insert_messages(connection: Connection, bundle: Bundle) -> None:
    """Insert the messages, and verify them by making the bundle again. Raises `ArchiveDamaged`."""
    _read(bundle, lambda: bundles.verify(bundle))
    key = {"user_id": bundle.user_id, "conversation_id": bundle.conversation_id}
    for lines in _pages(bundles.lines(bundle)):
        sql.INSERT_MESSAGES.run(connection, {**key, "messages": f"[{b','.join(lines).decode()}]"})
    [restored] = copy(connection, [(bundle.user_id, bundle.conversation_id, bundle.message_count)])
    if restored.sha256 != bundle.sha256:
        raise RuntimeError("the restored messages differ from the bundle; nothing was changed")


def _pages(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines in lists of bounded size."""
    page: list[bytes] = []
    size = 0
    for line in lines:
        page.append(line)
        size += len(line)
        if size >= _PAGE["bytes"] or len(page) == _PAGE["rows"]:
            yield page
            page, size = [], 0
    if page:
        yield page


def _read(bundle: Bundle, work: Callable[[], T]) -> T:
    """Return the result of `work`, run in a native thread if the bundle is large, so that other requests continue."""
    try:
        return in_native_thread(work) if bundle.plain_bytes > _LARGE else work()
    except ArchiveDamaged as error:
        raise _logged(error, bundle.user_id, bundle.conversation_id) from None


def _logged(error: ArchiveDamaged, user_id: UUID, conversation_id: UUID) -> ArchiveDamaged:
    ids = {"user_id": str(user_id), "conversation_id": str(conversation_id)}
    _log.error("an archived conversation cannot be read: %s", error.reason, extra=ids)
    return error
