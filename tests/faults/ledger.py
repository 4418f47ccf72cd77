"""What must be true of the tables after any fault, asked of PostgreSQL. Each function returns what is wrong."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Engine, text

from tests.faults.chatters import Said

# Positions from 1 without a gap; the counters of the conversation say the same.
_COUNTERS = """
SELECT c.id, c.message_count, c.next_position, count(m.position), min(m.position), max(m.position)
  FROM conversations c LEFT JOIN messages m ON m.user_id = c.user_id AND m.conversation_id = c.id
 GROUP BY c.user_id, c.id, c.message_count, c.next_position
HAVING c.message_count <> count(m.position) OR c.next_position <> coalesce(max(m.position), 0) + 1
    OR coalesce(min(m.position), 1) <> 1"""

# An answer follows its question, or a partial answer to the same question.
_ORDER = """
SELECT m.conversation_id, m.position, m.role, before.role, m.turn_id, before.turn_id
  FROM messages m LEFT JOIN messages before
    ON before.user_id = m.user_id AND before.conversation_id = m.conversation_id AND before.position = m.position - 1
 WHERE m.role = 'assistant' AND (before.role IS NULL OR before.turn_id IS DISTINCT FROM m.turn_id
       OR (before.role <> 'user' AND before.metadata ->> 'partial' IS NULL))"""

# A completed turn has its answer, whole and in its place; one that has not completed has none that looks whole.
_HALVES = """
SELECT t.id, t.status, t.answer_position, m.metadata, m.content
  FROM turns t LEFT JOIN messages m ON m.user_id = t.user_id AND m.conversation_id = t.conversation_id
                                   AND m.turn_id = t.id AND m.role = 'assistant' AND m.metadata ->> 'partial' IS NULL
 WHERE (t.status = 'completed') <> (m.position IS NOT NULL) OR m.position IS DISTINCT FROM
       CASE WHEN t.status = 'completed' THEN t.answer_position END"""

# The lease and the ledger agree.
_LEASES = """
SELECT c.id, c.running_attempt, t.id, t.status, t.attempt
  FROM conversations c FULL JOIN (SELECT * FROM turns WHERE status = 'running') t
    ON t.user_id = c.user_id AND t.conversation_id = c.id AND t.attempt = c.running_attempt
 WHERE (c.running_attempt IS NOT NULL AND t.id IS NULL) OR c.id IS NULL"""


def complaints(engine: Engine) -> dict[str, Sequence[Any]]:
    """Everything that is wrong with the tables by themselves."""
    with engine.connect() as connection:
        found = {
            name: connection.execute(text(query)).all()
            for name, query in {
                "counters": _COUNTERS, "order": _ORDER, "halves": _HALVES, "leases": _LEASES,
            }.items()
        }  # fmt: skip
    return {name: rows for name, rows in found.items() if rows}


def running_in(engine: Engine, conversations: Iterable[str]) -> Sequence[Any]:
    """Turns that still count as running in these conversations."""
    with engine.connect() as connection:
        query = "SELECT id, heartbeat_at FROM turns WHERE status = 'running' AND conversation_id = ANY(:ids ::uuid[])"
        return connection.execute(text(query), {"ids": list(conversations)}).all()


def broken_promises(engine: Engine, everything: Iterable[Said]) -> list[str]:
    """Where the tables say something else than what the people were told."""
    wrong: list[str] = []
    with engine.connect() as connection:
        stored: dict[str, list[Any]] = {}
        for row in connection.execute(text("SELECT * FROM messages WHERE role = 'user'")):
            stored.setdefault(row.content, []).append(row)
        answers = {
            (str(row.conversation_id), row.position): row
            for row in connection.execute(text("SELECT * FROM messages WHERE role = 'assistant'"))
        }
        turns = connection.execute(text("SELECT idempotency_key, count(*) AS turns FROM turns GROUP BY 1"))
        keys = {row.idempotency_key: row.turns for row in turns}
    for said in everything:
        times = len(stored.get(said.text, ()))
        if said.stored and not times:
            wrong.append(f"lost: {said}")
        if times > (1 if said.key else said.tries):
            wrong.append(f"stored {times} times: {said}")
        if said.key and (keys.get(said.key, 0) > 1 or len(said.turn_ids) > 1):
            wrong.append(f"more than one turn for a key: {said}")
        if said.answer is not None:
            there = answers.get((str(said.conversation_id), said.answer["position"]))
            promised = (said.answer["content"], said.answer["turn_id"])
            if there is None or (there.content, str(there.turn_id)) != promised:
                wrong.append(f"an acknowledged answer is not there: {said} {there}")
            if not said.answer["content"].endswith(f"last: {said.text}"):
                wrong.append(f"half an answer, or somebody else's: {said}")
    wrong += [
        f"a whole answer that is half: {row}"
        for row in answers.values()
        if "last: " not in row.content and not row.metadata.get("partial")
    ]
    return wrong
