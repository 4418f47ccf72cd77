"""Selection of idle conversations for the archival, in batches of a limited number of messages."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from app.repositories import archive_runs as runs

PAGE = 2_000  # conversations read by one statement
MAX_CONVERSATIONS = 200  # per batch
FIRST_KEY = (UUID(int=0), UUID(int=0))

Key = tuple[UUID, UUID]  # of a conversation: user id, conversation id


@dataclass(frozen=True, slots=True)
class Batch:
    """Idle conversations, as (user id, conversation id, number of messages).

    `end` is the key up to which all conversations are handled with this batch, `examined` their number. `unsearchable`
    conversations have no current search document.
    """

    conversations: list[tuple[UUID, UUID, int]]
    unsearchable: frozenset[Key]
    end: Key
    examined: int

    def split(self) -> Iterator["Batch"]:
        """Yield batches of one conversation each, and an empty one that moves the cursor to the end."""
        for conversation in self.conversations:
            yield Batch([conversation], self.unsearchable, conversation[:2], 0)
        yield Batch([], self.unsearchable, self.end, self.examined)


def iter_batches(
    connection: Connection, cutoff: datetime, after: Key, max_messages: Callable[[], int]
) -> Iterator[Batch]:
    """Yield batches of the conversations after the key `after` that are idle since before `cutoff`.

    `max_messages` is called before each batch; only a batch of one conversation can have more. A batch without
    conversations only moves the cursor.
    """
    while True:
        page: Any = runs.CANDIDATES.all(
            connection, {"cutoff": cutoff, "after_user": after[0], "after_id": after[1], "page": PAGE}
        )
        if not page:
            return
        yield from _split_page(page, max_messages)
        after = (page[-1].user_id, page[-1].id)


def _split_page(page: list[Any], max_messages: Callable[[], int]) -> Iterator[Batch]:
    start = handled = 0
    while start < len(page):
        end, size, limit = start, 0, max_messages()
        while end < len(page) and end - start < MAX_CONVERSATIONS:
            size += page[end].message_count if page[end].idle else 0
            if size > limit and end > start:
                break
            end += 1
        rows = page[start:end]
        yield Batch(
            [(row.user_id, row.id, row.message_count) for row in rows if row.idle],
            frozenset((row.user_id, row.id) for row in rows if row.idle and row.unsearchable),
            (rows[-1].user_id, rows[-1].id),
            rows[-1].ordinal - handled,
        )
        start, handled = end, rows[-1].ordinal
