"""Made-up accounts with conversations, to try Parley at a size: written by COPY, a batch of accounts a transaction.

What is made looks like what turns leave: contiguous positions, a user's message before each answer, one completed turn
for each pair. Nothing of it is real, and each address ends in `SEEDED`, so that all of it can be taken away again.
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

from app.extensions import db
from app.models.columns import new_id
from app.repositories.statement import Statement
from app.services.passwords import ROUNDS
from app.services.titles import preview_of, title_of
from ops.care.batches import autocommit
from ops.progress import progress

SEEDED = "@seeded.invalid"  # a domain that nobody can have
BATCH_MESSAGES = 20_000  # about so many in a transaction
REMOVED_AT_ONCE = 5  # accounts
TURN_SECONDS = 20  # from one message to its answer

_VOCABULARY = (
    "heating pump valve pressure boiler filter water radiator flow return sensor manual winter noise leak repair"
    " temperature evening question answer maybe certainly cold warm quickly slowly measure check replace open close the"
    " a of and to in is it that was for on are with as at be this have from or one had by word but not what all were"
)

_COUNT = Statement("seed.count", "SELECT count(*) AS users FROM users WHERE email LIKE %(seeded)s")
_REMOVE = Statement(
    "seed.remove",
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
class Seeded:
    """What was made. Each account's address is `seed-<number>-<mark>@seeded.invalid`, all with one `password`."""

    users: int
    conversations: int
    messages: int
    first_email: str | None
    password: str | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedsRemoved:
    """How many made-up accounts went, with everything they had."""

    users: int
    dry_run: bool = False


class _Batch:
    """Rows on their way into the tables, in the format of COPY."""

    def __init__(self) -> None:
        self._buffers = {table: io.StringIO() for table in _COLUMNS}

    def add(self, table: str, *values: Any) -> None:
        # No value has a tab, a newline or a backslash in it: all of them are made here.
        self._buffers[table].write("\t".join(map(str, values)) + "\n")

    def write(self) -> None:
        """In one transaction."""
        raw = db.engine.raw_connection()
        try:
            cursor: Any = raw.cursor()
            for table, buffer in self._buffers.items():
                buffer.seek(0)
                cursor.copy_expert(f"COPY {table} ({_COLUMNS[table]}) FROM STDIN", buffer)
            raw.commit()
        finally:
            raw.close()


def seed(*, users: int, conversations: int, messages: int, days: float = 0, random_seed: int = 1) -> Seeded:
    """Make `users` accounts with that many conversations each, and as many messages in each of these.

    `days` spreads the conversations' last messages evenly over so many days back from now. A batch is there wholly or
    not at all; stopped halfway, what was made so far stays. The same `random_seed` makes the same words.
    """
    started, mark, password = datetime.now(UTC), secrets.token_hex(3), secrets.token_urlsafe(12)
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()
    dice = random.Random(random_seed)  # noqa: S311  # words, not secrets
    sentences = list(_sentences(dice))
    in_batch = max(1, BATCH_MESSAGES // max(1, conversations * messages))
    with progress("Seeding", total=users * conversations * messages, unit="messages") as bar:
        for first in range(0, users, in_batch):
            batch, numbers = _Batch(), range(first, min(first + in_batch, users))
            for number in numbers:
                user_id = new_id()
                since = started - timedelta(days=days + 1)
                batch.add("users", user_id, f"seed-{number}-{mark}{SEEDED}", f"Seed {number}", hashed, since, since)
                for _ in range(conversations):
                    ended = started - timedelta(days=days * dice.random())
                    _converse(batch, user_id, messages, ended, sentences, dice)
            batch.write()
            bar.advance(len(numbers) * conversations * messages)
    return Seeded(
        users=users,
        conversations=users * conversations,
        messages=users * conversations * messages,
        first_email=f"seed-0-{mark}{SEEDED}" if users else None,
        password=password if users else None,
        seconds=round((datetime.now(UTC) - started).total_seconds(), 1),
    )


def remove_seeds(*, dry_run: bool = False) -> SeedsRemoved:
    """Delete every made-up account with all it has, a few at a time."""
    with autocommit() as connection:
        found = _COUNT.one(connection, {"seeded": f"%{SEEDED}"})
        total = found.users if found else 0
        if dry_run:
            return SeedsRemoved(users=total, dry_run=True)
        removed = 0
        with progress("Removing", total=total, unit="accounts") as bar:
            while gone := len(_REMOVE.all(connection, {"seeded": f"%{SEEDED}", "batch": REMOVED_AT_ONCE})):
                removed += gone
                bar.advance(gone)
    return SeedsRemoved(users=removed)


def _converse(
    batch: _Batch, user_id: UUID, messages: int, ended: datetime, sentences: Sequence[str], dice: random.Random
) -> None:
    conversation, begun = new_id(), ended - timedelta(seconds=TURN_SECONDS * messages)
    first = last = ""
    for position in range(1, messages + 1):
        asked = position % 2 == 1
        moment = begun + timedelta(seconds=TURN_SECONDS * position)
        last = " ".join(dice.choices(sentences, k=dice.randint(1, 3 if asked else 9)))
        if asked:
            turn, first = new_id(), first or last
            # A last message without its answer is that of a turn that failed.
            status, answer = ("completed", position + 1) if position < messages else ("failed", "\\N")
            tokens = (dice.randint(20, 2000), dice.randint(20, 400), "stop") if answer != "\\N" else ("\\N",) * 3
            known = (user_id, turn, conversation, new_id(), status, position, answer, "demo", "demo", *tokens)
            batch.add("turns", *known, moment, moment, moment, moment + timedelta(seconds=TURN_SECONDS / 2))
        batch.add("messages", user_id, conversation, position, "user" if asked else "assistant", last, turn, moment)
    shown = (title_of(first), preview_of(last)) if first else ("\\N", "\\N")
    batch.add("conversations", user_id, conversation, *shown, messages, messages + 1, begun, ended)


def _sentences(dice: random.Random) -> Iterator[str]:
    words = _VOCABULARY.split()
    for _ in range(2000):
        yield " ".join(dice.choices(words, k=dice.randint(4, 12))).capitalize() + "."
