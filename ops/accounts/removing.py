"""Deleting what somebody has, a few conversations at a time: killed at any point, the next run goes on from there.

With each piece goes, in the same transaction, the account of what is gone so far; so it is right whenever one looks.
"""

from collections import Counter
from collections.abc import Mapping
from uuid import UUID

import orjson
from sqlalchemy import Connection

from app.repositories import accounts, erasing
from app.repositories.atomic import atomically
from app.repositories.owned import count_rows
from app.services import removal
from ops.progress import progress

_BATCH = 100  # conversations in one transaction, and no more than removal.STEP positions


def gone_so_far(connection: Connection, user_id: UUID) -> Counter[str]:
    """What earlier runs, which did not come to their end, have deleted: rows by table."""
    row = erasing.SO_FAR.one(connection, {"user_id": user_id})
    return Counter({table: int(count) for table, count in row.rows.items()}) if row else Counter()


def remove_conversations(connection: Connection, user_id: UUID) -> None:
    """Delete all of somebody's conversations but those that are held.

    One that is longer than a step goes by many short statements, in one transaction: all of it, or nothing.
    """
    gone, there = gone_so_far(connection, user_id), erasing.COUNT.one(connection, {"user_id": user_id})
    with progress("Erasing", total=there.conversations if there else None, unit="conversations") as bar:
        while batch := erasing.NEXT.all(connection, {"user_id": user_id, "limit": _BATCH}):
            chosen: list[UUID] = []
            positions = 0
            for row in batch:
                positions += row.next_position
                if chosen and positions > removal.STEP:
                    break
                chosen.append(row.id)
            taken = _remove(connection, user_id, chosen, gone)
            gone += taken
            bar.advance(taken["conversations"])


def remove_account(connection: Connection, user_id: UUID) -> Mapping[str, int] | None:
    """Delete the account and what is left of it; gives what is gone now in all. None: there is no such account.

    In the caller's transaction. Whoever deletes something of somebody's locks the account first, so nothing comes
    between counting and deleting.
    """
    if erasing.LOCK_ACCOUNT.one(connection, {"user_id": user_id}) is None:
        return None
    gone = gone_so_far(connection, user_id) + Counter(count_rows(connection, user_id))
    accounts.ERASE_ACCOUNT.one(connection, {"user_id": user_id})
    erasing.FORGET.run(connection, {"user_id": user_id})
    return dict(gone)


def _remove(connection: Connection, user_id: UUID, conversations: list[UUID], gone: Counter[str]) -> Counter[str]:
    """What went; `gone` is what was noted before."""
    those = {"user_id": user_id, "conversations": conversations}
    taken: Counter[str] = Counter()
    with atomically(connection):
        locked = erasing.LOCK.all(connection, those)
        those["conversations"] = [row.id for row in locked]
        erasing.LOCK_TURNS.all(connection, those)
        for row in locked:
            if row.next_position > removal.STEP:
                taken += Counter(removal.empty(connection, user_id, row.id, end=row.next_position))
        rest = erasing.CONVERSATIONS.one(connection, those)
        taken += Counter(dict(rest._mapping) if rest else {})
        noted = orjson.dumps(gone + taken).decode()
        erasing.NOTE.run(connection, {"user_id": user_id, "rows": noted})
    return taken
