"""The steps of an erasure: conversations in batches, then the user.

Each batch updates the counts of erased rows in its own transaction, so a run that is killed is continued by the next
one with the right counts.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from uuid import UUID

import orjson
from sqlalchemy import Connection

from app.repositories import erasure, stored_bytes, user_admin
from app.repositories.atomic import atomically
from app.repositories.owned import count_rows
from app.services import conversation_deletion
from ops.runs.progress import progress

STATEMENT_SECONDS = 120  # for a batch, and for counting the remaining rows of a long conversation
_BATCH = 100  # conversations per transaction, with at most conversation_deletion.STEP positions


def erased_rows(connection: Connection, user_id: UUID) -> Counter[str]:
    """Return the rows, by table, that earlier, unfinished runs have deleted."""
    row = erasure.PROGRESS.one(connection, {"user_id": user_id})
    return Counter({table: int(count) for table, count in row.rows.items()}) if row else Counter()


def requested_receipt_id(connection: Connection, user_id: UUID) -> UUID | None:
    """Return the id of the future receipt, if the user requested the erasure."""
    row = erasure.PROGRESS.one(connection, {"user_id": user_id})
    return row.receipt_id if row else None


def erase_conversations(connection: Connection, user_id: UUID, before_batch: Callable[[], None]) -> None:
    """Delete all of the user's conversations that are not held. `before_batch` may raise an error to stop.

    A long conversation is deleted by many short statements in one transaction.
    """
    erased, count = erased_rows(connection, user_id), erasure.COUNT.one(connection, {"user_id": user_id})
    with progress("Erasing", total=count.conversations if count else None, unit="conversations") as bar:
        while page := erasure.NEXT.all(connection, {"user_id": user_id, "limit": _BATCH}):
            before_batch()
            batch: list[UUID] = []
            positions = 0
            for row in page:
                positions += row.next_position
                if batch and positions > conversation_deletion.STEP:
                    break
                batch.append(row.id)
            deleted = _erase_batch(connection, user_id, batch, erased)
            erased += deleted
            bar.advance(deleted["conversations"])


def lock_user(connection: Connection, user_id: UUID) -> bool:
    """Lock the user's row, as every other deletion does first, and return whether it exists."""
    return erasure.LOCK_USER.one(connection, {"user_id": user_id}) is not None


def erase_user(connection: Connection, user_id: UUID, receipt_id: UUID) -> Mapping[str, int]:
    """Delete the locked user and all remaining rows; return all erased rows by table.

    Runs in the caller's transaction. The lock makes the count exact. The deletions of stored files and of copies at
    providers, which jobs do later, are recorded for the receipt.
    """
    erased = erased_rows(connection, user_id) + Counter(count_rows(connection, user_id))
    for statement in erasure.RECORD_REMOVALS:
        statement.run(connection, {"user_id": user_id, "receipt_id": receipt_id})
    user_admin.ERASE_USER.one(connection, {"user_id": user_id})
    stored_bytes.DELETE.run(connection, {"user_id": user_id})  # afterwards, because each deleted row changes them
    erasure.DELETE_PROGRESS.run(connection, {"user_id": user_id})
    return dict(erased)


def _erase_batch(connection: Connection, user_id: UUID, batch: list[UUID], erased: Counter[str]) -> Counter[str]:
    """Delete a batch and store the new total; return the deleted rows. `erased` is the total before."""
    parameters = {"user_id": user_id, "conversations": batch}
    deleted: Counter[str] = Counter()
    with atomically(connection, statement_seconds=STATEMENT_SECONDS):
        locked = erasure.LOCK.all(connection, parameters)
        parameters["conversations"] = [row.id for row in locked]
        erasure.LOCK_TURNS.all(connection, parameters)
        for row in locked:
            if row.next_position > conversation_deletion.STEP:
                deleted += Counter(conversation_deletion.empty(connection, user_id, row.id, end=row.next_position))
        rest = erasure.CONVERSATIONS.one(connection, parameters)
        deleted += Counter(dict(rest._mapping) if rest else {})
        total = orjson.dumps(erased + deleted).decode()
        erasure.RECORD_PROGRESS.run(connection, {"user_id": user_id, "rows": total})
    return deleted
