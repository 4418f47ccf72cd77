"""Integrity checks of the tables after faults. Each function returns the rows or lines that are wrong."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, text

from app.database import autocommit
from app.errors import ParleyError
from app.services.archives import restore
from ops.catalogue.jobs import JOBS
from tests.faults.load import SentMessage

# The positions of a live conversation are 1 to message_count without a gap; a bundled one has no messages.
WRONG_COUNTERS = """
SELECT c.id, c.storage, c.message_count, c.next_position, count(m.position), min(m.position), max(m.position)
  FROM conversations c LEFT JOIN messages m ON m.user_id = c.user_id AND m.conversation_id = c.id
 GROUP BY c.user_id, c.id, c.storage, c.message_count, c.next_position
HAVING CASE WHEN c.storage = 'live'
            THEN c.message_count <> count(m.position) OR c.next_position <> coalesce(max(m.position), 0) + 1
                 OR coalesce(min(m.position), 1) <> 1
            ELSE count(m.position) > 0 END"""

# An answer follows its question, or a partial answer to the same question.
WRONG_ORDER = """
SELECT m.conversation_id, m.position, m.role, previous.role, m.turn_id, previous.turn_id
  FROM messages m LEFT JOIN messages previous
    ON previous.user_id = m.user_id AND previous.conversation_id = m.conversation_id
   AND previous.position = m.position - 1
 WHERE m.role = 'assistant' AND (previous.role IS NULL OR previous.turn_id IS DISTINCT FROM m.turn_id
       OR (previous.role <> 'user' AND previous.metadata ->> 'partial' IS NULL))"""

# The message at a turn's position is its question.
MISSING_QUESTIONS = """
SELECT t.id, t.status, t.position, m.role, m.turn_id
  FROM turns t JOIN conversations c ON c.user_id = t.user_id AND c.id = t.conversation_id AND c.storage = 'live'
  LEFT JOIN messages m
    ON m.user_id = t.user_id AND m.conversation_id = t.conversation_id AND m.position = t.position
 WHERE m.role IS DISTINCT FROM 'user' OR m.turn_id IS DISTINCT FROM t.id"""

# A completed turn has a complete answer at its answer_position; any other turn has no complete answer.
WRONG_ANSWERS = """
SELECT t.id, t.status, t.answer_position, m.metadata, m.content
  FROM turns t JOIN conversations c ON c.user_id = t.user_id AND c.id = t.conversation_id AND c.storage = 'live'
  LEFT JOIN messages m ON m.user_id = t.user_id AND m.conversation_id = t.conversation_id
                      AND m.turn_id = t.id AND m.role = 'assistant' AND m.metadata ->> 'partial' IS NULL
 WHERE (t.status = 'completed') <> (m.position IS NOT NULL) OR m.position IS DISTINCT FROM
       CASE WHEN t.status = 'completed' THEN t.answer_position END"""

# A conversation's lease belongs to its running turn, and a running turn has a lease.
WRONG_LEASES = """
SELECT c.id, c.running_attempt, t.id, t.status, t.attempt
  FROM conversations c FULL JOIN (SELECT * FROM turns WHERE status = 'running') t
    ON t.user_id = c.user_id AND t.conversation_id = c.id AND t.attempt = c.running_attempt
 WHERE (c.running_attempt IS NOT NULL AND t.id IS NULL) OR c.id IS NULL"""

DUPLICATE_KEYS = """
SELECT user_id, idempotency_key, count(*) FROM turns WHERE idempotency_key IS NOT NULL
 GROUP BY user_id, idempotency_key HAVING count(*) > 1"""

# Runs that are older than the job's time limit and the interval of the job that closes stale runs.
ENDLESS_RUNS = """
SELECT job, message_id, attempt, started_at FROM job_runs
  JOIN unnest(:jobs ::text[], :limits ::float8[]) AS job(name, seconds) ON job.name = job_runs.job
 WHERE status = 'running' AND started_at < now() - make_interval(secs => job.seconds)"""

# A conversation is either live or has one archive, with as many messages as it counts.
WRONG_ARCHIVES = """
SELECT c.id, c.storage, c.message_count, a.message_count
  FROM conversations c
  FULL JOIN conversation_archives a ON a.user_id = c.user_id AND a.conversation_id = c.id
 WHERE c.id IS NULL OR (c.storage = 'live') <> (a.conversation_id IS NULL)
    OR (c.storage <> 'live' AND a.message_count IS DISTINCT FROM c.message_count)"""

# The tokens of ended turns are counted; a failed attempt that was retried counts as well, so it may be more.
UNCOUNTED_TOKENS = """
SELECT u.id, u.tokens_used, sum(t.quota_tokens)
  FROM users u JOIN turns t ON t.user_id = u.id AND t.status <> 'running'
                           AND (t.finished_at AT TIME ZONE 'UTC')::date = u.tokens_day
 WHERE u.tokens_per_day IS NOT NULL GROUP BY u.id HAVING u.tokens_used < sum(t.quota_tokens)"""

# A run counts exactly what it archived, also when it was killed. Clients here delete no conversation.
WRONG_ARCHIVE_RUNS = """
SELECT r.id, r.state, r.conversations, r.restored, count(a.conversation_id)
  FROM archive_runs r LEFT JOIN conversation_archives a ON a.run_id = r.id
 GROUP BY r.id HAVING r.conversations <> r.restored + count(a.conversation_id)"""

_CLOSING_INTERVAL = timedelta(minutes=2)
CHECKS = {
    "counters": WRONG_COUNTERS,
    "order": WRONG_ORDER,
    "questions": MISSING_QUESTIONS,
    "answers": WRONG_ANSWERS,
    "leases": WRONG_LEASES,
    "keys": DUPLICATE_KEYS,
    "runs": ENDLESS_RUNS,
    "archives": WRONG_ARCHIVES,
    "archive runs": WRONG_ARCHIVE_RUNS,
    "quotas": UNCOUNTED_TOKENS,
}


def inconsistencies(engine: Engine) -> dict[str, Sequence[Any]]:
    """Return the rows that contradict each other, by the name of the check; checks without any are left out."""
    limits = {
        "jobs": [job.name for job in JOBS],
        "limits": [(job.time_limit + _CLOSING_INTERVAL).total_seconds() for job in JOBS],
    }
    with engine.connect() as connection:
        rows = {
            name: connection.execute(text(query), limits if name == "runs" else {}).all()
            for name, query in CHECKS.items()
        }
    return {name: errors for name, errors in rows.items() if errors}


def restore_all() -> tuple[str, list[str]]:
    """Restore every archive, and return a summary and the archives that could not be read.

    Needs an application context.
    """
    errors = list[str]()
    with autocommit() as connection:
        bundled = connection.execute(text("SELECT user_id, conversation_id FROM conversation_archives")).all()
        query = "SELECT sum(conversations) AS archived, sum(restored) AS restored, count(*) AS runs FROM archive_runs"
        totals = connection.execute(text(query)).one()
        for row in bundled:
            try:
                if not restore(connection, *row):
                    errors.append(f"could not be restored: {row}")
            except ParleyError as error:
                errors.append(f"{error.detail}: {row}")
    summary = f"{totals.archived} times in {totals.runs} runs, restored {totals.restored}, {len(bundled)} at the end"
    return summary, errors


def running_turns(engine: Engine) -> Sequence[Any]:
    """Return the turns with status `running`."""
    with engine.connect() as connection:
        query = "SELECT id, conversation_id, heartbeat_at, now() FROM turns WHERE status = 'running'"
        return connection.execute(text(query)).all()


def turns_by_status(engine: Engine) -> dict[str, int]:
    """Count the turns by status."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT status, count(*) AS turns FROM turns GROUP BY 1 ORDER BY 1"))
        return {row.status: row.turns for row in rows}


def acknowledgement_errors(engine: Engine, messages: Iterable[SentMessage]) -> list[str]:
    """Compare the tables with what the server acknowledged to the senders, and return each difference."""
    errors: list[str] = []
    with engine.connect() as connection:
        stored: dict[str, list[Any]] = {}
        for row in connection.execute(text("SELECT * FROM messages WHERE role = 'user'")):
            stored.setdefault(row.content, []).append(row)
        answers = {
            (str(row.conversation_id), row.position): row
            for row in connection.execute(text("SELECT * FROM messages WHERE role = 'assistant'"))
        }
        turns = connection.execute(text("SELECT idempotency_key, count(*) AS turns FROM turns GROUP BY 1"))
        turns_by_key = {row.idempotency_key: row.turns for row in turns}
    messages = list(messages)
    texts_without_key = {message.text for message in messages if not message.key}
    for message in messages:
        times = len(stored.get(message.text, ()))
        if message.answer is None and not (message.superseded and _overtaken(message, stored, texts_without_key)):
            errors.append(f"never answered: {message}")
        if message.stored and not times:
            errors.append(f"lost: {message}")
        if times > (1 if message.key else message.attempts):
            errors.append(f"stored {times} times: {message}")
        if message.key and (turns_by_key.get(message.key, 0) > 1 or len(message.turn_ids) > 1):
            errors.append(f"more than one turn for a key: {message}")
        if message.answer is not None:
            answer = answers.get((str(message.conversation_id), message.answer["position"]))
            acknowledged = (message.answer["content"], message.answer["turn_id"])
            if answer is None or (answer.content, str(answer.turn_id)) != acknowledged:
                errors.append(f"an acknowledged answer is missing: {message} {answer}")
            # The echo of a request whose earlier messages are unanswered: "3 messages; last: first\n\nsecond".
            _, marker, echo = message.answer["content"].partition("last: ")
            if not marker or echo.rpartition("\n\n")[2] != message.text:
                errors.append(f"an incomplete or foreign answer: {message}")
    errors += [
        f"an incomplete answer that is stored as complete: {row}"
        for row in answers.values()
        if "last: " not in (row.content or "") and not row.metadata.get("partial")
    ]
    return errors


def _overtaken(message: SentMessage, stored: dict[str, list[Any]], texts_without_key: set[str]) -> bool:
    """Return whether a message without a key stands after this one in its conversation.

    The sender had given up on that request and repeated it, and the server carried it out late. Nothing else may keep
    this message from being answered.
    """
    [question] = stored[message.text]
    return any(
        row.conversation_id == question.conversation_id and row.position > question.position
        for content in texts_without_key
        for row in stored.get(content, ())
    )


def call_count_errors(
    engine: Engine, messages: Iterable[SentMessage], requests: Sequence[Any], pieces: int
) -> list[str]:
    """Compare the provider's calls with the messages, and return each difference.

    A completed turn counts the tokens of one call. A message has at most as many calls as requests, and exactly one if
    it was undisturbed. `requests` are the bodies that the provider received.
    """
    with engine.connect() as connection:
        query = """SELECT id, input_tokens, output_tokens FROM turns
                    WHERE status = 'completed' AND (input_tokens, output_tokens) IS DISTINCT FROM (7, :pieces)
                      AND input_tokens IS NOT NULL"""  # null: the stream was cut after the answer, before the usage
        errors = [f"not counted once: {row}" for row in connection.execute(text(query), {"pieces": pieces})]
    # Unanswered messages come before the new one in the same message.
    calls = Counter(body["messages"][-1]["content"].rpartition("\n\n")[2] for body in requests)
    for message in messages:
        limit = 1 if message.undisturbed and set(message.statuses) == {"200"} else message.attempts
        if calls[message.text] > limit or (message.answer is not None and not calls[message.text]):
            errors.append(f"{calls[message.text]} calls: {message}")
    return errors
