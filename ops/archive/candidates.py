"""Which conversations to archive next, in portions of about so many messages."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from app.repositories import archive_runs as runs

PAGE = 2_000  # conversations looked at by one statement
MOST = 200  # conversations in a batch, however short
FIRST = (UUID(int=0), UUID(int=0))

Key = tuple[UUID, UUID]  # of a conversation: its user's id and its own


@dataclass(frozen=True, slots=True)
class Batch:
    """Conversations as (user, conversation, messages); dealing with them deals with `seen` more, up to `end`.

    `unsearchable` ones have no search document, or one that is behind.
    """

    conversations: list[tuple[UUID, UUID, int]]
    unsearchable: frozenset[Key]
    end: Key
    seen: int

    def singly(self) -> Iterator["Batch"]:
        """The same as batches of one conversation each; the last only moves the cursor to the end."""
        for each in self.conversations:
            yield Batch([each], self.unsearchable, each[:2], 0)
        yield Batch([], self.unsearchable, self.end, self.seen)


def batches(connection: Connection, cutoff: datetime, after: Key, messages: Callable[[], int]) -> Iterator[Batch]:
    """All that is idle since before `cutoff`, beyond the key `after`.

    `messages` is asked before each batch how many it may have, unless a single conversation has more. A batch without
    conversations only moves the cursor.
    """
    while True:
        page: Any = runs.CANDIDATES.all(
            connection, {"cutoff": cutoff, "after_user": after[0], "after_id": after[1], "page": PAGE}
        )
        if not page:
            return
        yield from _portions(page, messages)
        after = (page[-1].user_id, page[-1].id)


def _portions(page: list[Any], messages: Callable[[], int]) -> Iterator[Batch]:
    start = done = 0
    while start < len(page):
        end, size, most = start, 0, messages()
        while end < len(page) and end - start < MOST:
            size += page[end].message_count if page[end].idle else 0
            if size > most and end > start:
                break
            end += 1
        rows = page[start:end]
        yield Batch(
            [(row.user_id, row.id, row.message_count) for row in rows if row.idle],
            frozenset((row.user_id, row.id) for row in rows if row.idle and row.unsearchable),
            (rows[-1].user_id, rows[-1].id),
            rows[-1].place - done,
        )
        start, done = end, rows[-1].place
