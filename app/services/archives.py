"""Archived conversations: their messages are in a bundle each, and read and come back as if they were not.

The archival itself is `ops/archive/`. Here is what an owner's requests need: to read a bundle, and to put its messages
back before the conversation is written to.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar
from uuid import UUID

import gevent
from gevent import monkey
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.errors import ArchiveDamaged, ConversationBusy
from app.models import Message
from app.repositories import archives as sql
from app.repositories.atomic import atomically
from app.services import bundles
from app.services.bundles import Bundle, BundledMessage

_LARGE = 1_000_000  # bytes in a bundle, beyond which reading it would hold up others in this process
_PAGE = {"rows": 5_000, "bytes": 2_000_000}  # of messages that one statement reads or writes, at about the most
_LOCK_TIMEOUT = "55P03"
T = TypeVar("T")

_log = logging.getLogger("parley.archives")


def find(connection: Connection, user_id: UUID, conversation_id: UUID) -> Bundle | None:
    """The conversation's bundle, if it has one."""
    row = sql.READ.one(connection, {"user_id": user_id, "conversation_id": conversation_id})
    return bundles.stored(row) if row is not None else None


def page(bundle: Bundle, *, order: Literal["asc", "desc"], after: int | None, limit: int) -> list[Message]:
    """A page of its messages as the live table would give it. Raises `ArchiveDamaged`."""
    return [
        Message(user_id=bundle.user_id, conversation_id=bundle.conversation_id, meta=told.pop("metadata"), **told)
        for each in _opened(bundle, lambda: bundles.page(bundle, order=order, after=after, limit=limit))
        for told in [each._asdict()]
    ]


def message_at(bundle: Bundle, position: int) -> BundledMessage | None:
    """The message at that position. Raises `ArchiveDamaged`."""
    found = _opened(bundle, lambda: bundles.page(bundle, order="asc", after=position - 1, limit=1))
    return next((each for each in found if each.position == position), None)


def messages(bundle: Bundle, after: int) -> Iterator[BundledMessage]:
    """Its messages after that position, in order. Raises `ArchiveDamaged` before the first."""
    return _opened(bundle, lambda: bundles.messages(bundle, after))


def restore(connection: Connection, user_id: UUID, conversation_id: UUID) -> bool:
    """Put the messages of a bundled conversation back, on an AUTOCOMMIT connection; its status is the one it had then.

    False: it is not bundled, or not any more, or there is no such conversation. One of many that come at once restores
    it, and the others wait for that. Raises `ArchiveDamaged`, and `ConversationBusy` where they wait too long; nothing
    has changed then.
    """
    key = {"user_id": user_id, "conversation_id": conversation_id}
    try:
        with atomically(connection):
            if sql.LOCK_BUNDLED.one(connection, key) is None:
                return False
            row = sql.READ.one(connection, key)
            if row is None:
                raise without_bundle(user_id, conversation_id)
            _put_back(connection, bundles.stored(row))
            if sql.REVIVE.run(connection, key) != 1:
                raise RuntimeError("a conversation was not revived although its row is locked")
            sql.COUNT_RESTORED.run(connection, {"run_id": row.run_id})
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) == _LOCK_TIMEOUT:
            raise ConversationBusy(retry_after=1) from None
        raise
    return True


def without_bundle(user_id: UUID, conversation_id: UUID) -> ArchiveDamaged:
    """What to raise for a conversation that counts as bundled and has no bundle."""
    return _reported(ArchiveDamaged(), user_id, conversation_id)


def copy(connection: Connection, conversations: Sequence[tuple[UUID, UUID, int]]) -> list[Bundle]:
    """The messages of these (user, conversation, number of messages) as bundles, in the same order.

    A bundle's `message_count` is what was found. The caller holds the conversations' rows.
    """
    compressor = bundles.new_compressor()
    writers = [bundles.Writer(*each, compressor) for each in conversations]
    place = after = 0
    more = bool(writers)
    while more:
        parameters = {**ids_of(conversations), "place": max(place, 1), "after": after, **_PAGE}
        rows: Sequence[Any] = sql.MESSAGES.all(connection, parameters)
        for row in rows:
            place, after = row[0], row[1]
            writers[place - 1].add(row[1:9])
        more = bool(rows) and (rows[-1].looked == _PAGE["rows"] or rows[-1].looked > len(rows))
    return [writer.close() for writer in writers]


def ids_of(conversations: Sequence[tuple[UUID, UUID, int]]) -> dict[str, list[UUID]]:
    """These conversations as the statements take them."""
    return {"user_ids": [each[0] for each in conversations], "conversation_ids": [each[1] for each in conversations]}


def _put_back(connection: Connection, bundle: Bundle) -> None:
    """Insert the messages, and see by reading them again that they are what was bundled. Raises `ArchiveDamaged`."""
    _opened(bundle, lambda: bundles.verify(bundle))
    key = {"user_id": bundle.user_id, "conversation_id": bundle.conversation_id}
    for lines in _pages(bundles.lines(bundle)):
        sql.PUT_BACK.run(connection, {**key, "messages": f"[{b','.join(lines).decode()}]"})
    [again] = copy(connection, [(bundle.user_id, bundle.conversation_id, bundle.message_count)])
    if again.sha256 != bundle.sha256:
        raise RuntimeError("what was restored is not what was bundled; nothing was changed")


def _pages(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The same in lists of bounded size."""
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


def _opened(bundle: Bundle, work: Callable[[], T]) -> T:
    """What `work` makes of the bundle, which is large now and then, while others in this process go on."""
    try:
        if bundle.plain_bytes > _LARGE and monkey.is_module_patched("threading"):
            found: T = gevent.get_hub().threadpool.apply(work)
            return found
        return work()
    except ArchiveDamaged as error:
        raise _reported(error, bundle.user_id, bundle.conversation_id) from None


def _reported(error: ArchiveDamaged, user_id: UUID, conversation_id: UUID) -> ArchiveDamaged:
    about = {"user_id": str(user_id), "conversation_id": str(conversation_id)}
    _log.error("an archived conversation cannot be read: %s", error.why, extra=about)
    return error
