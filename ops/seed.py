"""Generated users with conversations, to try Parley with much data. Written with COPY, in one transaction per batch.

The rows have the shape that turns produce: contiguous positions, a user message before each answer, one completed turn
per pair. Every email address ends in `SEEDED`, so that the users can be deleted again.
"""

import io
import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import bcrypt

from app.database import autocommit, current_engine
from app.ids import new_id
from app.repositories.statement import Statement
from app.services.passwords import ROUNDS
from app.services.search_index import index_conversations
from app.services.titles import preview_of, title_of
from ops.runs.progress import progress

SEEDED = "@seeded.invalid"  # RFC 2606 reserves this top-level domain
BATCH_MESSAGES = 20_000  # per transaction, approximately
DELETE_BATCH = 5  # users
TURN_SECONDS = 20  # between a message and its answer

_VOCABULARY = (
    "heating pump valve pressure boiler filter water radiator flow return sensor manual winter noise leak repair"
    " temperature evening question answer maybe certainly cold warm quickly slowly measure check replace open close the"
    " a of and to in is it that was for on are with as at be this have from or one had by word but not what all were"
)

_COUNT = Statement("seed.count", "SELECT count(*) AS users FROM users WHERE email LIKE %(seeded)s")
_DELETE = Statement(
    "seed.delete",
    """
DELETE FROM users WHERE id IN (SELECT id FROM users WHERE email LIKE %(seeded)s LIMIT %(batch)s)
RETURNING id""",
)
_COLUMNS = {
    "users": "id, email, name, password_hash, created_at, updated_at",
    "conversations": "user_id, id, title, preview, message_count, next_position, created_at, updated_at",
    "turns": "user_id, id, conversation_id, attempt, status, position, answer_position, provider, model, input_tokens,"
    " output_tokens, finish_reason, heartbeat_at, started_at, first_token_at, finished_at",
    "messages": "user_id, conversation_id, position, role, content, turn_id, created_at",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedReport:
    """The created rows. The users' addresses are `seed-<number>-<mark>@seeded.invalid`; all have the `password`."""

    users: int
    conversations: int
    messages: int
    first_email: str | None
    password: str | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedDeletionReport:
    """The number of deleted seeded users."""

    users: int
    dry_run: bool = False


class _Batch:
    """Rows to insert, in the format of COPY."""

    def __init__(self) -> None:
        self._buffers = {table: io.StringIO() for table in _COLUMNS}

    def add(self, table: str, *values: Any) -> None:
        # No generated value contains a tab, a newline or a backslash.
        self._buffers[table].write("\t".join(map(str, values)) + "\n")

    def write(self) -> None:
        """Insert all rows in one transaction."""
        raw = current_engine().raw_connection()
        try:
            cursor: Any = raw.cursor()
            for table, buffer in self._buffers.items():
                buffer.seek(0)
                cursor.copy_expert(f"COPY {table} ({_COLUMNS[table]}) FROM STDIN", buffer)
            raw.commit()
        finally:
            raw.close()


def seed(*, users: int, conversations: int, messages: int, days: float = 0, random_seed: int = 1) -> SeedReport:
    """Create users, with that many conversations per user and messages per conversation.

    The last messages are distributed over the last `days`. Each batch is one transaction; an interrupted run keeps the
    finished batches. The same `random_seed` produces the same text.
    """
    started, mark, password = datetime.now(UTC), secrets.token_hex(3), secrets.token_urlsafe(12)
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()
    dice = random.Random(random_seed)  # noqa: S311  # not for security
    sentences = list(_sentences(dice))
    batch_users = max(1, BATCH_MESSAGES // max(1, conversations * messages))
    with progress("Seeding", total=users * conversations * messages, unit="messages") as bar:
        for first in range(0, users, batch_users):
            batch, numbers = _Batch(), range(first, min(first + batch_users, users))
            written: list[tuple[UUID, UUID]] = []
            for number in numbers:
                user_id = new_id()
                since = started - timedelta(days=days + 1)
                batch.add("users", user_id, f"seed-{number}-{mark}{SEEDED}", f"Seed {number}", hashed, since, since)
                for _ in range(conversations):
                    ended = started - timedelta(days=days * dice.random())
                    written.append((user_id, _add_conversation(batch, user_id, messages, ended, sentences, dice)))
            batch.write()
            index_conversations(written)  # so that they can be searched when the command ends
            bar.advance(len(numbers) * conversations * messages)
    return SeedReport(
        users=users,
        conversations=users * conversations,
        messages=users * conversations * messages,
        first_email=f"seed-0-{mark}{SEEDED}" if users else None,
        password=password if users else None,
        seconds=round((datetime.now(UTC) - started).total_seconds(), 1),
    )


def delete_seeds(*, dry_run: bool = False) -> SeedDeletionReport:
    """Delete all seeded users with their data, in batches."""
    with autocommit() as connection:
        row = _COUNT.one(connection, {"seeded": f"%{SEEDED}"})
        total = row.users if row else 0
        if dry_run:
            return SeedDeletionReport(users=total, dry_run=True)
        deleted = 0
        with progress("Deleting", total=total, unit="users") as bar:
            while count := len(_DELETE.all(connection, {"seeded": f"%{SEEDED}", "batch": DELETE_BATCH})):
                deleted += count
                bar.advance(count)
    return SeedDeletionReport(users=deleted)


def _add_conversation(
    batch: _Batch, user_id: UUID, messages: int, ended: datetime, sentences: Sequence[str], dice: random.Random
) -> UUID:
    """Add a conversation to the batch; return its id."""
    conversation, started = new_id(), ended - timedelta(seconds=TURN_SECONDS * messages)
    first = last = ""
    for position in range(1, messages + 1):
        is_user = position % 2 == 1
        created_at = started + timedelta(seconds=TURN_SECONDS * position)
        last = " ".join(dice.choices(sentences, k=dice.randint(1, 3 if is_user else 9)))
        if is_user:
            turn, first = new_id(), first or last
            # The turn of a last message without an answer has failed.
            status, answer = ("completed", position + 1) if position < messages else ("failed", "\\N")
            tokens = (dice.randint(20, 2000), dice.randint(20, 400), "stop") if answer != "\\N" else ("\\N",) * 3
            columns = (user_id, turn, conversation, new_id(), status, position, answer, "demo", "demo", *tokens)
            finished_at = created_at + timedelta(seconds=TURN_SECONDS / 2)
            batch.add("turns", *columns, created_at, created_at, created_at, finished_at)
        role = "user" if is_user else "assistant"
        batch.add("messages", user_id, conversation, position, role, last, turn, created_at)
    texts = (title_of(first), preview_of(last)) if first else ("\\N", "\\N")
    batch.add("conversations", user_id, conversation, *texts, messages, messages + 1, started, ended)
    return conversation


def _sentences(dice: random.Random) -> Iterator[str]:
    words = _VOCABULARY.split()
    for _ in range(2000):
        yield " ".join(dice.choices(words, k=dice.randint(4, 12))).capitalize() + "."
