"""What must be true of the tables after any fault, asked of PostgreSQL. Each function returns what is wrong."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, text

from app.errors import ParleyError
from app.services.archives import restore
from ops.care.batches import autocommit
from ops.catalogue import JOBS
from tests.faults.chatters import Said

# Positions from 1 without a gap, as the conversation's counters say; none where the messages are bundled.
COUNTERS = """
SELECT c.id, c.storage, c.message_count, c.next_position, count(m.position), min(m.position), max(m.position)
  FROM conversations c LEFT JOIN messages m ON m.user_id = c.user_id AND m.conversation_id = c.id
 GROUP BY c.user_id, c.id, c.storage, c.message_count, c.next_position
HAVING CASE WHEN c.storage = 'live'
            THEN c.message_count <> count(m.position) OR c.next_position <> coalesce(max(m.position), 0) + 1
                 OR coalesce(min(m.position), 1) <> 1
            ELSE count(m.position) > 0 END"""

# An answer follows its question, or a partial answer to the same question.
ORDER = """
SELECT m.conversation_id, m.position, m.role, before.role, m.turn_id, before.turn_id
  FROM messages m LEFT JOIN messages before
    ON before.user_id = m.user_id AND before.conversation_id = m.conversation_id AND before.position = m.position - 1
 WHERE m.role = 'assistant' AND (before.role IS NULL OR before.turn_id IS DISTINCT FROM m.turn_id
       OR (before.role <> 'user' AND before.metadata ->> 'partial' IS NULL))"""

# A turn has its question, in its place.
QUESTIONS = """
SELECT t.id, t.status, t.position, m.role, m.turn_id
  FROM turns t JOIN conversations c ON c.user_id = t.user_id AND c.id = t.conversation_id AND c.storage = 'live'
  LEFT JOIN messages m
    ON m.user_id = t.user_id AND m.conversation_id = t.conversation_id AND m.position = t.position
 WHERE m.role IS DISTINCT FROM 'user' OR m.turn_id IS DISTINCT FROM t.id"""

# A completed turn has its answer, whole and in its place; one that has not completed has none that looks whole.
HALVES = """
SELECT t.id, t.status, t.answer_position, m.metadata, m.content
  FROM turns t JOIN conversations c ON c.user_id = t.user_id AND c.id = t.conversation_id AND c.storage = 'live'
  LEFT JOIN messages m ON m.user_id = t.user_id AND m.conversation_id = t.conversation_id
                      AND m.turn_id = t.id AND m.role = 'assistant' AND m.metadata ->> 'partial' IS NULL
 WHERE (t.status = 'completed') <> (m.position IS NOT NULL) OR m.position IS DISTINCT FROM
       CASE WHEN t.status = 'completed' THEN t.answer_position END"""

# The lease and the ledger agree.
LEASES = """
SELECT c.id, c.running_attempt, t.id, t.status, t.attempt
  FROM conversations c FULL JOIN (SELECT * FROM turns WHERE status = 'running') t
    ON t.user_id = c.user_id AND t.conversation_id = c.id AND t.attempt = c.running_attempt
 WHERE (c.running_attempt IS NOT NULL AND t.id IS NULL) OR c.id IS NULL"""

KEYS = """
SELECT user_id, idempotency_key, count(*) FROM turns WHERE idempotency_key IS NOT NULL
 GROUP BY user_id, idempotency_key HAVING count(*) > 1"""

# Longer than a run may take, its grace and a minute for whoever closes it: by job.
RUNS = """
SELECT job, message_id, attempt, started_at FROM job_runs
  JOIN unnest(:jobs ::text[], :limits ::float8[]) AS known(name, seconds) ON known.name = job_runs.job
 WHERE status = 'running' AND started_at < now() - make_interval(secs => known.seconds)"""

# Messages are in exactly one place; there are as many of them as the conversation says.
ARCHIVES = """
SELECT c.id, c.storage, c.message_count, a.message_count
  FROM conversations c
  FULL JOIN conversation_archives a ON a.user_id = c.user_id AND a.conversation_id = c.id
 WHERE c.id IS NULL OR (c.storage = 'live') <> (a.conversation_id IS NULL)
    OR (c.storage <> 'live' AND a.message_count IS DISTINCT FROM c.message_count)"""

# What ended turns took is counted, at least once: an attempt that another one followed counts too.
QUOTAS = """
SELECT u.id, u.tokens_used, sum(t.quota_tokens)
  FROM users u JOIN turns t ON t.user_id = u.id AND t.status <> 'running'
                           AND (t.finished_at AT TIME ZONE 'UTC')::date = u.tokens_day
 WHERE u.tokens_per_day IS NOT NULL GROUP BY u.id HAVING u.tokens_used < sum(t.quota_tokens)"""

# A run's counts are those of what it archived, whenever it was killed; nobody deletes conversations here.
ARCHIVE_RUNS = """
SELECT r.id, r.state, r.conversations, r.restored, count(a.conversation_id)
  FROM archive_runs r LEFT JOIN conversation_archives a ON a.run_id = r.id
 GROUP BY r.id HAVING r.conversations <> r.restored + count(a.conversation_id)"""

_ROUND_TRIP = timedelta(minutes=2)


def complaints(engine: Engine) -> dict[str, Sequence[Any]]:
    """Everything that is wrong with the tables by themselves."""
    queries = {
        "counters": COUNTERS, "order": ORDER, "questions": QUESTIONS, "halves": HALVES, "leases": LEASES, "keys": KEYS,
        "runs": RUNS, "archives": ARCHIVES, "archive runs": ARCHIVE_RUNS, "quotas": QUOTAS,
    }  # fmt: skip
    limits = {
        "jobs": [job.name for job in JOBS],
        "limits": [(job.longest + _ROUND_TRIP).total_seconds() for job in JOBS],
    }
    with engine.connect() as connection:
        found = {
            name: connection.execute(text(query), limits if name == "runs" else {}).all()
            for name, query in queries.items()
        }
    return {name: rows for name, rows in found.items() if rows}


def bring_back() -> tuple[str, list[str]]:
    """Restore everything that is archived, so that it can be looked at: what there was, and what could not be read.

    Inside the context of an application.
    """
    wrong = list[str]()
    with autocommit() as connection:
        bundled = connection.execute(text("SELECT user_id, conversation_id FROM conversation_archives")).all()
        counted = "SELECT sum(conversations) AS archived, sum(restored) AS restored, count(*) AS runs FROM archive_runs"
        done = connection.execute(text(counted)).one()
        for row in bundled:
            try:
                if not restore(connection, *row):
                    wrong.append(f"could not be restored: {row}")
            except ParleyError as error:
                wrong.append(f"{error.detail}: {row}")
    return f"{done.archived} times in {done.runs} runs, restored {done.restored}, {len(bundled)} at the end", wrong


def running(engine: Engine) -> Sequence[Any]:
    """Turns that count as running."""
    with engine.connect() as connection:
        query = "SELECT id, conversation_id, heartbeat_at, now() FROM turns WHERE status = 'running'"
        return connection.execute(text(query)).all()


def turns_by_status(engine: Engine) -> dict[str, int]:
    """How many turns ended how."""
    with engine.connect() as connection:
        found = connection.execute(text("SELECT status, count(*) AS turns FROM turns GROUP BY 1 ORDER BY 1"))
        return {row.status: row.turns for row in found}


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
    everything = list(everything)
    keyless = {said.text for said in everything if not said.key}
    for said in everything:
        times = len(stored.get(said.text, ()))
        if said.answer is None and not (said.moved_on and _overtaken(said, stored, keyless)):
            wrong.append(f"never answered: {said}")
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
        if "last: " not in (row.content or "") and not row.metadata.get("partial")
    ]
    return wrong


def _overtaken(said: Said, stored: dict[str, list[Any]], keyless: set[str]) -> bool:
    """Whether a request without a key, which its author had given up and sent again, was carried out later than this
    one: it is the only thing that may keep a conversation from going back to it.
    """
    [question] = stored[said.text]
    return any(
        row.conversation_id == question.conversation_id and row.position > question.position
        for content in keyless
        for row in stored.get(content, ())
    )


def miscounted_calls(engine: Engine, everything: Iterable[Said], asked: Sequence[Any], pieces: int) -> list[str]:
    """Where a provider's calls are not what they should be: one that counts for each completed turn, no more of them
    than requests, and exactly one where nothing was in the way. `asked` are the bodies that the provider has seen.
    """
    with engine.connect() as connection:
        query = """SELECT id, input_tokens, output_tokens FROM turns
                    WHERE status = 'completed' AND (input_tokens, output_tokens) IS DISTINCT FROM (7, :pieces)
                      AND input_tokens IS NOT NULL"""  # null: whole, and cut off before the last line, which counts
        wrong = [f"not counted once: {row}" for row in connection.execute(text(query), {"pieces": pieces})]
    calls = Counter(body["messages"][-1]["content"] for body in asked)
    for said in everything:
        most = 1 if said.calm and set(said.statuses) == {"200"} else said.tries
        if calls[said.text] > most or (said.answer is not None and not calls[said.text]):
            wrong.append(f"{calls[said.text]} calls: {said}")
    return wrong
