"""The ledger sees what it is there to see: each kind of damage, done by hand."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.chatters import Said
from tests.faults.ledger import broken_promises, complaints, miscounted_calls

Chat = Callable[..., TestResponse]

OF_IT = "WHERE user_id = :u"
DAMAGE = {
    "a message is gone": ("counters", f"DELETE FROM messages {OF_IT} AND position = 2"),
    "a count is wrong": ("counters", f"UPDATE conversations SET message_count = 3 {OF_IT}"),
    "a position is left out": ("counters", f"UPDATE messages SET position = 7 {OF_IT} AND position = 4"),
    "an answer has no question": ("order", f"UPDATE messages SET role = 'assistant' {OF_IT} AND position = 3"),
    "an answer is another turn's": ("order", f"UPDATE messages SET turn_id = NULL {OF_IT} AND position = 4"),
    "a turn has no question": ("questions", f"UPDATE turns SET position = 9 {OF_IT} AND position = 1"),
    "a completed turn has no answer": ("halves", f"DELETE FROM messages {OF_IT} AND position = 4"),
    "half an answer looks whole": ("halves", f"UPDATE turns SET status = 'interrupted' {OF_IT} AND position = 1"),
    "a lease without a turn": ("leases", f"UPDATE conversations SET running_attempt = gen_random_uuid() {OF_IT}"),
    "a turn without a lease": (
        "leases",
        f"UPDATE turns SET status = 'running', finished_at = NULL {OF_IT} AND position = 1",
    ),
    "a bundle is missing": ("archives", f"UPDATE conversations SET storage = 'bundled' {OF_IT}"),
    "what a turn took is not counted": (
        "quotas",
        "WITH t AS (UPDATE turns SET quota_tokens = 5 WHERE user_id = :u) UPDATE users SET tokens_per_day = 10,"
        " tokens_used = 9, tokens_day = (now() AT TIME ZONE 'UTC')::date WHERE id = :u",
    ),
}


@pytest.fixture
def talk(chat: Chat, upstream: Upstream) -> list[Said]:
    """Two questions of one conversation and what was answered."""
    upstream.script = scripts.echo()
    said = list[Said]()
    for _ in range(2):
        words, key = f"user says {uuid4().hex}", uuid4().hex
        body: dict[str, Any] = {"conversation_id": said[0].conversation_id} if said else {}
        told = chat(words, headers={"Idempotency-Key": key}, **body).get_json()
        ids = told["conversation"]["id"], {told["turn"]["id"]}
        said.append(Said(words, key, 1, ["200"], *ids, answer=told["message"], stored=True))
    return said


def mine(found: dict[str, Any], before: dict[str, Any]) -> set[str]:
    """The kinds of complaints that have become more; what other tests left in their tables does not count."""
    return {kind for kind, rows in found.items() if len(rows) > len(before.get(kind, ()))}


@pytest.mark.parametrize("name", DAMAGE)
def test_each_damage_is_seen(name: str, talk: list[Said], user: Account, engine: Engine) -> None:
    kind, statement = DAMAGE[name]
    before = complaints(engine)
    with engine.begin() as connection:
        connection.execute(text(statement), {"u": user.id})
    try:
        assert kind in mine(complaints(engine), before)
    finally:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM conversations WHERE user_id = :u"), {"u": user.id})


def test_a_run_that_never_ends_is_seen(engine: Engine) -> None:
    before = complaints(engine)
    run = (
        "INSERT INTO job_runs (id, job, status, started_at) SELECT gen_random_uuid(), 'beat.tick', 'running', now() - "
    )
    with engine.begin() as connection:
        connection.execute(text(f"{run} interval '1 hour'"))
    try:
        assert mine(complaints(engine), before) == {"runs"}
    finally:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM job_runs WHERE status = 'running' AND job = 'beat.tick'"))


def wrong(engine: Engine, talk: list[Said]) -> list[str]:
    """What is said of these; the tables may hold what other tests said."""
    return [line for line in broken_promises(engine, talk) if "user says" in line and not line.startswith("a whole")]


def test_what_was_promised_and_is_not_there_is_seen(talk: list[Said], user: Account, engine: Engine) -> None:
    assert wrong(engine, talk) == []
    unheard = Said("user says nothing that was stored", "another key", 1, ["200"], stored=True)
    assert wrong(engine, [unheard])[0].startswith("never answered")
    assert wrong(engine, [unheard])[1].startswith("lost")
    assert talk[1].answer is not None
    talk[1].answer = {**talk[1].answer, "content": "something else"}
    assert [line.split(":")[0] for line in wrong(engine, talk)] == [
        "an acknowledged answer is not there",
        "half an answer, or somebody else's",
    ]
    with engine.begin() as connection:
        again = """
            INSERT INTO messages (user_id, conversation_id, position, role, content)
            SELECT user_id, conversation_id, 9, role, content FROM messages WHERE user_id = :u AND position = 1"""
        connection.execute(text(again), {"u": user.id})
    assert wrong(engine, talk[:1])[0].startswith("stored 2 times")


def test_a_call_too_many_is_seen(talk: list[Said], engine: Engine) -> None:
    def counted(*contents: str) -> list[str]:
        asked = [{"messages": [{"role": "user", "content": content}]} for content in contents]
        return [line for line in miscounted_calls(engine, talk, asked, pieces=2) if "calls:" in line]

    first, second = (said.text for said in talk)
    assert counted(first, second) == []
    assert counted(first, second, second)[0].startswith("2 calls")
    assert counted(first)[0].startswith("0 calls")
