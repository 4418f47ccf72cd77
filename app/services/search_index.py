"""Search index: keep the documents of conversations up to date, outside the turn.

A job writes them some seconds after a turn; the sweep finds what was missed. Only the newest range of a conversation
and what follows it are written, unless the word rules have changed. A bundled conversation is read from its bundle.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.database import autocommit, sqlstate, violated_constraint
from app.enums import ConversationStorage
from app.errors import ArchiveDamaged
from app.repositories import search as sql
from app.repositories.search_state import RULES
from app.services import archives
from app.services.search_documents import RangeDocument, ranges, title_tsvector

_PAGE = {"messages": 500, "bytes": 2_000_000}  # that one statement reads
_DOCUMENTS = 50  # that one statement writes
_BATCH = 1_000  # conversations that one statement of the sweep looks at
_FIRST = UUID(int=0)

_log = logging.getLogger("parley.search")


@dataclass(frozen=True, slots=True)
class SweepReport:
    """Result of a sweep: conversations `examined`, of which stale ones were `written`, or `failed` and stay stale.

    `complete` is false where the sweep ran out of time or reached its limit. `todos` are the rewritten to-do items.
    """

    examined: int = 0
    written: int = 0
    failed: int = 0
    complete: bool = False
    todos: int = 0


@dataclass(frozen=True, slots=True)
class IndexReport:
    """Conversations whose documents were `written`; `fresh` ones needed nothing; `failed` ones stay stale."""

    written: int = 0
    fresh: int = 0
    failed: int = 0


def index_conversation(user_id: UUID, conversation_id: UUID) -> bool:
    """Write the documents of a conversation; return whether it was stale.

    Safe to repeat, and to run twice at once. Raises `ArchiveDamaged` where its bundle cannot be read, and what the
    database raises.
    """
    with autocommit() as connection:
        state = sql.STATE.one(connection, {"user_id": user_id, "conversation_id": conversation_id})
        if state is None:
            return False
        try:
            _write(connection, user_id, conversation_id, state)
        except IntegrityError as error:
            if violated_constraint(error) not in sql.FOREIGN_KEYS:
                raise
            return False  # deleted in the meantime
    return True


def index_conversations(conversations: Iterable[tuple[UUID, UUID]]) -> IndexReport:
    """Write the documents of these (user, conversation); one that fails does not stop the others.

    Raises where the connection to the database breaks.
    """
    outcomes = Counter(_try(user_id, conversation_id) for user_id, conversation_id in conversations)
    return IndexReport(outcomes["written"], outcomes["fresh"], outcomes["failed"])


def index_stale(*, limit: int = 10_000, seconds: float = 300) -> SweepReport:
    """Write the documents of stale conversations: at most `limit`, for about `seconds`.

    A later run reaches the rest: what this one wrote is fresh by then, and to pass over a fresh one costs microseconds.
    Raises where the connection to the database breaks.
    """
    deadline = time.monotonic() + seconds
    examined, outcomes = 0, Counter[str]()
    after = (_FIRST, _FIRST)
    while time.monotonic() < deadline:
        with autocommit() as connection:
            rows = sql.STALE.all(connection, {"user_id": after[0], "conversation_id": after[1], "batch": _BATCH})
        if not rows:
            return SweepReport(examined, outcomes["written"], outcomes["failed"], complete=True)
        examined += rows[-1].examined
        after = (rows[-1].user_id, rows[-1].conversation_id)
        for row in rows:
            if row.stale:
                if outcomes.total() >= limit or time.monotonic() >= deadline:
                    return SweepReport(examined, outcomes["written"], outcomes["failed"])
                outcomes[_try(row.user_id, row.conversation_id)] += 1
    return SweepReport(examined, outcomes["written"], outcomes["failed"])


def _try(user_id: UUID, conversation_id: UUID) -> Literal["written", "fresh", "failed"]:
    about: dict[str, Any] = {"conversation_id": str(conversation_id)}
    try:
        return "written" if index_conversation(user_id, conversation_id) else "fresh"
    except ArchiveDamaged:  # logged where the bundle was read
        return "failed"
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        about["sqlstate"] = sqlstate(error)
        _log.warning("search documents could not be written: %s", type(error.orig).__name__, extra=about)
        return "failed"


def _write(connection: Connection, user_id: UUID, conversation_id: UUID, state: Row[Any]) -> None:
    """Write what differs: documents first, then the row that says how far they reach."""
    key = {"user_id": user_id, "conversation_id": conversation_id}
    start, first_character, position = 1, 0, 0
    if state.rules == RULES:
        position = state.indexed_position
        if state.first_position is not None:
            start, first_character = state.first_position, state.first_character
    else:
        sql.DELETE_DOCUMENTS.run(connection, key)
    if position < state.next_position - 1:
        messages = _Positions(_messages(connection, user_id, conversation_id, state.storage, start - 1))
        documents = ranges(messages, first_character)
        while page := list(islice(documents, _DOCUMENTS)):
            _store(connection, key, page)
        # Positions may have gaps, so the state counts, unless messages came while they were read.
        position = max(state.next_position - 1, messages.last)
    sql.WRITE_STATE.one(
        connection, {**key, "document": title_tsvector(state.title), "title": state.title, "position": position}
    )


def _store(connection: Connection, key: dict[str, UUID], documents: Sequence[RangeDocument]) -> None:
    sql.WRITE_DOCUMENTS.run(
        connection,
        {
            **key,
            "first_positions": [document.first_position for document in documents],
            "first_characters": [document.first_character for document in documents],
            "last_positions": [document.last_position for document in documents],
            "documents": [document.tsvector for document in documents],
        },
    )


class _Positions:
    """Messages on their way to the documents; `last` is the position of the newest one that was read."""

    def __init__(self, messages: Iterator[tuple[int, str | None]]) -> None:
        self._messages = messages
        self.last = 0

    def __iter__(self) -> Iterator[tuple[int, str | None]]:
        for position, content in self._messages:
            self.last = position
            yield position, content


def _messages(
    connection: Connection, user_id: UUID, conversation_id: UUID, storage: str, after: int
) -> Iterator[tuple[int, str | None]]:
    """Yield position and content of the messages after a position, from the live table or from the bundle."""
    if storage == ConversationStorage.BUNDLED:
        bundle = archives.find(connection, user_id, conversation_id)
        if bundle is None:
            raise archives.without_bundle(user_id, conversation_id)
        yield from ((message.position, message.content) for message in archives.messages(bundle, after))
        return
    while True:
        parameters = {"user_id": user_id, "conversation_id": conversation_id, "after": after, **_PAGE}
        page = sql.MESSAGES.all(connection, parameters)
        if not page:
            return
        yield from ((row.position, row.content) for row in page)
        size = sum(len(row.content or "") for row in page)
        if len(page) < _PAGE["messages"] and 4 * size < _PAGE["bytes"]:  # at most 4 bytes a character: this was all
            return
        after = page[-1].position
