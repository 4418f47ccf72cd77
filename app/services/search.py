"""Search: keeping what conversations are found by up to date, outside the turn.

A conversation's document is written anew as a whole, after a turn or a new title: of its newest 500,000 characters,
which takes the database a second or two, and some milliseconds for an ordinary one. The sweep finds what got lost on
the way there.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.repositories import search as sql
from app.services.sessions import autocommit

# Characters of a document, and messages. A tsvector holds 1 MB, which the first is nearly always below; text made to
# be large in it, or slow to read, gets the next. With none left, the conversation is found by its title.
_BOUNDS = ((500_000, 5_000), (100_000, 1_000), (20_000, 200), (0, 1))
_TOO_LARGE = "54000"  # program_limit_exceeded: "string is too long for tsvector"
_TOO_SLOW = "57014"  # query_canceled: the statement_timeout
_BATCH = 1_000  # conversations looked at by one statement of the sweep
_FIRST = UUID(int=0)

_log = logging.getLogger("parley.search")


@dataclass(frozen=True, slots=True)
class SweepReport:
    """`seen` conversations were looked at; of the stale ones, documents were `written`, or `failed` and stay stale.

    `complete` says that all were looked at.
    """

    seen: int = 0
    written: int = 0
    failed: int = 0
    complete: bool = False


def index_conversation(user_id: UUID, conversation_id: UUID) -> bool:
    """Write the conversation's document, unless it is up to date or the conversation is gone; whether it was written.

    Safe to repeat, and to run for the same conversation twice at once. Raises what the database does.
    """
    with autocommit() as connection:
        return _write(connection, user_id, conversation_id)


@dataclass(frozen=True, slots=True)
class IndexReport:
    """Documents `written`; `fresh` were up to date or their conversation gone; `failed` stay stale for the sweep."""

    written: int = 0
    fresh: int = 0
    failed: int = 0


def index_conversations(conversations: Iterable[tuple[UUID, UUID]]) -> IndexReport:
    """Write the documents of these (user, conversation); one that cannot be written does not stop the others.

    Raises where the database has gone away.
    """
    found = Counter(_tried(user_id, conversation_id) for user_id, conversation_id in conversations)
    return IndexReport(found["written"], found["fresh"], found["failed"])


def index_stale(*, limit: int = 10_000, seconds: float = 300) -> SweepReport:
    """Write the documents of stale conversations: of no more than `limit`, and for about so many seconds.

    What it does not reach is reached by a later run: those written by this one are fresh by then, and looking at a
    fresh one costs microseconds. A document that cannot be written is logged and counted, and the rest goes on; raises
    where the database has gone away.
    """
    deadline = time.monotonic() + seconds
    seen, found = 0, Counter[str]()
    after = (_FIRST, _FIRST)
    while time.monotonic() < deadline:
        with autocommit() as connection:
            rows = sql.STALE.all(connection, {"user_id": after[0], "conversation_id": after[1], "batch": _BATCH})
        if not rows:
            return SweepReport(seen, found["written"], found["failed"], complete=True)
        seen += rows[-1].seen
        after = (rows[-1].user_id, rows[-1].conversation_id)
        for row in rows:
            if row.stale:
                if found.total() >= limit or time.monotonic() >= deadline:
                    return SweepReport(seen, found["written"], found["failed"])
                found[_tried(row.user_id, row.conversation_id)] += 1
    return SweepReport(seen, found["written"], found["failed"])


def _tried(user_id: UUID, conversation_id: UUID) -> Literal["written", "fresh", "failed"]:
    try:
        return "written" if index_conversation(user_id, conversation_id) else "fresh"
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        _log.warning(
            "a search document could not be written: %s",
            type(error.orig).__name__,
            extra={"conversation_id": str(conversation_id), "sqlstate": getattr(error.orig, "pgcode", None)},
        )
        return "failed"


def _write(connection: Connection, user_id: UUID, conversation_id: UUID) -> bool:
    key = {"user_id": user_id, "conversation_id": conversation_id}
    for characters, messages in _BOUNDS:
        try:
            row = sql.WRITE.one(connection, {**key, "characters": characters, "messages": messages})
        except IntegrityError as error:
            if getattr(getattr(error.orig, "diag", None), "constraint_name", None) != sql.FOREIGN_KEY:
                raise
            return False  # deleted while we wrote
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) not in (_TOO_LARGE, _TOO_SLOW) or characters == 0:
                raise
            about = {"conversation_id": str(conversation_id), "characters": characters}
            _log.info("a search document is cut to fewer characters", extra=about)
        else:
            return row is not None
    return False
