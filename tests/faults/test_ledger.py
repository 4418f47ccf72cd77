"""The integrity checks see each kind of damage."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.ledger import acknowledgement_errors, call_count_errors, inconsistencies
from tests.faults.load import SentMessage

Chat = Callable[..., TestResponse]

OF_USER = "WHERE user_id = :u"
DAMAGE = {
    "message deleted": ("counters", f"DELETE FROM messages {OF_USER} AND position = 2"),
    "wrong count": ("counters", f"UPDATE conversations SET message_count = 3 {OF_USER}"),
    "position skipped": ("counters", f"UPDATE messages SET position = 7 {OF_USER} AND position = 4"),
    "answer without question": ("order", f"UPDATE messages SET role = 'assistant' {OF_USER} AND position = 3"),
    "answer of another turn": ("order", f"UPDATE messages SET turn_id = NULL {OF_USER} AND position = 4"),
    "turn without question": ("questions", f"UPDATE turns SET position = 9 {OF_USER} AND position = 1"),
    "completed turn without answer": ("answers", f"DELETE FROM messages {OF_USER} AND position = 4"),
    "interrupted turn with a complete answer": (
        "answers",
        f"UPDATE turns SET status = 'interrupted' {OF_USER} AND position = 1",
    ),
    "lease without turn": ("leases", f"UPDATE conversations SET running_attempt = gen_random_uuid() {OF_USER}"),
    "turn without lease": (
        "leases",
        f"UPDATE turns SET status = 'running', finished_at = NULL {OF_USER} AND position = 1",
    ),
    "bundle missing": ("archives", f"UPDATE conversations SET storage = 'bundled' {OF_USER}"),
    "tokens not counted": (
        "quotas",
        "WITH t AS (UPDATE turns SET quota_tokens = 5 WHERE user_id = :u) UPDATE users SET tokens_per_day = 10,"
        " tokens_used = 9, tokens_day = (now() AT TIME ZONE 'UTC')::date WHERE id = :u",
    ),
}


@pytest.fixture
def messages(chat: Chat, upstream: Upstream) -> list[SentMessage]:
    """Two answered messages of one conversation."""
    upstream.script = scripts.echo()
    sent = list[SentMessage]()
    for _ in range(2):
        content, key = f"user says {uuid4().hex}", uuid4().hex
        options: dict[str, Any] = {"conversation_id": sent[0].conversation_id} if sent else {}
        body = chat(content, headers={"Idempotency-Key": key}, **options).get_json()
        ids = body["conversation"]["id"], {body["turn"]["id"]}
        sent.append(SentMessage(content, key, 1, ["200"], *ids, answer=body["message"], stored=True))
    return sent


def increased(rows: dict[str, Any], before: dict[str, Any]) -> set[str]:
    """Return the checks with more rows than before; other tests may have left some in the tables."""
    return {name for name, errors in rows.items() if len(errors) > len(before.get(name, ()))}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_rows_are_reported_by_their_check(
    name: str, messages: list[SentMessage], user: LoggedInUser, engine: Engine
) -> None:
    check, statement = DAMAGE[name]
    before = inconsistencies(engine)
    with engine.begin() as connection:
        connection.execute(text(statement), {"u": user.id})
    try:
        assert check in increased(inconsistencies(engine), before)
    finally:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM conversations WHERE user_id = :u"), {"u": user.id})


def test_run_that_never_ends_is_reported(engine: Engine) -> None:
    before = inconsistencies(engine)
    run = (
        "INSERT INTO job_runs (id, job, status, started_at) SELECT gen_random_uuid(), 'beat.tick', 'running', now() - "
    )
    with engine.begin() as connection:
        connection.execute(text(f"{run} interval '1 hour'"))
    try:
        assert increased(inconsistencies(engine), before) == {"runs"}
    finally:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM job_runs WHERE status = 'running' AND job = 'beat.tick'"))


def errors_for(engine: Engine, messages: list[SentMessage]) -> list[str]:
    """Return the differences for these messages; the tables may hold those of other tests."""
    return [
        line
        for line in acknowledgement_errors(engine, messages)
        if "user says" in line and not line.startswith("an incomplete answer that")
    ]


def test_acknowledgement_without_row_is_reported(
    messages: list[SentMessage], user: LoggedInUser, engine: Engine
) -> None:
    assert errors_for(engine, messages) == []
    never_stored = SentMessage("user says nothing that was stored", "another key", 1, ["200"], stored=True)
    assert errors_for(engine, [never_stored])[0].startswith("never answered")
    assert errors_for(engine, [never_stored])[1].startswith("lost")
    assert messages[1].answer is not None
    messages[1].answer = {**messages[1].answer, "content": "something else"}
    assert [line.split(":")[0] for line in errors_for(engine, messages)] == [
        "an acknowledged answer is missing",
        "an incomplete or foreign answer",
    ]
    with engine.begin() as connection:
        duplicate = """
            INSERT INTO messages (user_id, conversation_id, position, role, content)
            SELECT user_id, conversation_id, 9, role, content FROM messages WHERE user_id = :u AND position = 1"""
        connection.execute(text(duplicate), {"u": user.id})
    assert errors_for(engine, messages[:1])[0].startswith("stored 2 times")


def test_wrong_number_of_provider_calls_is_reported(messages: list[SentMessage], engine: Engine) -> None:
    def miscounted(*contents: str) -> list[str]:
        requests = [{"messages": [{"role": "user", "content": content}]} for content in contents]
        return [line for line in call_count_errors(engine, messages, requests, pieces=2) if "calls:" in line]

    first, second = (message.text for message in messages)
    assert miscounted(first, second) == []
    assert miscounted(first, second, second)[0].startswith("2 calls")
    assert miscounted(first)[0].startswith("0 calls")
