"""Upkeep on a real database: what it takes, what it leaves, in batches, on trial, and beside those who hold rows."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.models.columns import new_id
from app.models.turn import TurnStatus
from app.repositories import care
from app.repositories.statement import Statement
from ops.care.api_keys import purge_api_keys
from ops.care.idempotency_keys import free_keys
from ops.care.job_runs import close_lost, job_times, purge_job_runs
from ops.care.sessions import purge_sessions
from ops.care.turns import close_stale
from ops.declarations import Job
from tests.api.keys import change_key, make_key
from tests.factories import Account, make_conversation

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _nothing_to_do(flask_app: Flask, engine: Engine) -> Iterator[None]:
    """Other tests leave rows behind; here everything that is found was made for it."""
    with flask_app.app_context():
        close_stale(stale_seconds=20)
        with engine.begin() as connection:  # those that were made such that nobody can close them
            connection.execute(
                text(
                    "UPDATE turns SET status = 'failed', finished_at = now()"
                    " WHERE status = 'running' AND heartbeat_at < now() - interval '20 s'"
                )
            )
        purge_sessions(keep=20 * DAY)
        free_keys(keep=timedelta(hours=20))
        yield


@pytest.fixture
def sql(engine: Engine) -> Callable[..., list[Any]]:
    """A function that runs a statement and returns its rows."""

    def sql(statement: str, **parameters: Any) -> list[Any]:
        with engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    return sql


@pytest.fixture
def make_turn(engine: Engine, sql: Callable[..., list[Any]]) -> Callable[..., UUID]:
    """A function that makes a turn in a conversation of its own; running, unless it `ended`."""

    def make_turn(
        account: Account, *, silent: float = 0, key: str | None = None, age: float = 0, ended: bool = False
    ) -> UUID:
        turn, attempt = new_id(), new_id()
        conversation = make_conversation(
            engine, account, running_attempt=None if ended else attempt, next_position=2, message_count=1
        )
        sql(
            """
            INSERT INTO turns (user_id, id, conversation_id, attempt, status, position, provider, idempotency_key,
                               request_hash, heartbeat_at, started_at, finished_at)
            VALUES (:user, :turn, :conversation, :attempt, :status, 1, 'demo', :key, CASE WHEN :key IS NOT NULL
                    THEN '\\x00'::bytea END, now() - make_interval(secs => :silent),
                    now() - make_interval(secs => :age), CASE WHEN :status <> 'running' THEN now() END)""",
            user=account.id,
            turn=turn,
            conversation=conversation,
            attempt=attempt,
            key=key,
            silent=silent,
            age=age,
            status=TurnStatus.COMPLETED if ended else TurnStatus.RUNNING,
        )
        return turn

    return make_turn


def turns_of(sql: Callable[..., list[Any]], account: Account) -> dict[UUID, Any]:
    rows = sql(
        "SELECT turns.*, running_attempt FROM turns JOIN conversations ON conversations.user_id = turns.user_id"
        " AND conversations.id = turns.conversation_id WHERE turns.user_id = :user",
        user=account.id,
    )
    return {row.id: row for row in rows}


def test_silent_turns_are_closed_and_others_are_not(
    user: Account, other_user: Account, make_turn: Callable[..., UUID], sql: Callable[..., list[Any]]
) -> None:
    silent = [make_turn(owner, silent=31) for owner in (user, user, user, other_user)]
    speaking, ended = make_turn(user, silent=29), make_turn(user, silent=31, ended=True)
    tried = close_stale(stale_seconds=30, dry_run=True)
    assert (tried.silent, tried.closed) == (4, 0)
    done = close_stale(stale_seconds=30, batch=2)
    assert (done.silent, done.closed, done.more) == (4, 4, False)
    known = turns_of(sql, user) | turns_of(sql, other_user)
    for turn in silent:
        assert (known[turn].status, known[turn].running_attempt) == ("interrupted", None)
        assert known[turn].error["code"] == "interrupted"
        assert known[turn].finished_at is not None
    assert (known[speaking].status, known[ended].status) == ("running", "completed")
    assert known[speaking].running_attempt is not None
    assert close_stale(stale_seconds=30).silent == 0


def test_a_silent_turn_that_somebody_holds_does_not_keep_the_others_open(
    user: Account, make_turn: Callable[..., UUID], sql: Callable[..., list[Any]], engine: Engine
) -> None:
    held, *others = [make_turn(user, silent=100) for _ in range(3)]
    with engine.connect() as holder:
        query = "SELECT FROM conversations JOIN turns ON conversation_id = conversations.id WHERE turns.id = :id"
        holder.execute(text(f"{query} FOR UPDATE OF conversations"), {"id": held})
        done = close_stale(stale_seconds=60)
        assert (done.silent, done.closed) == (3, 2)
        holder.rollback()
    assert {turns_of(sql, user)[turn].status for turn in others} == {"interrupted"}
    assert close_stale(stale_seconds=60).closed == 1


def test_closing_stops_when_its_time_is_over_and_says_so(user: Account, make_turn: Callable[..., UUID]) -> None:
    for _ in range(3):
        make_turn(user, silent=100)
    first = close_stale(stale_seconds=60, batch=1, seconds=0)
    assert (first.closed, first.more) == (1, True)
    assert close_stale(stale_seconds=60).closed == 2


def test_a_turn_that_somebody_else_owns_by_now_is_left_alone(
    user: Account, make_turn: Callable[..., UUID], sql: Callable[..., list[Any]]
) -> None:
    turn = make_turn(user, silent=100)
    sql("UPDATE conversations SET running_attempt = :other WHERE user_id = :user", other=new_id(), user=user.id)
    done = close_stale(stale_seconds=60)
    assert (done.silent, done.closed) == (1, 0)
    assert turns_of(sql, user)[turn].status == "running"
    sql("UPDATE turns SET status = 'failed', finished_at = now() WHERE user_id = :user", user=user.id)


def session_with(sql: Callable[..., list[Any]], account: Account, expires: str, revoked: str = "NULL") -> UUID:
    session = new_id()
    sql(
        "INSERT INTO sessions (user_id, id, refresh_hash, rotated_at, expires_at, revoked_at)"
        f" VALUES (:user, :id, decode(repeat('00', 32), 'hex'), now(), {expires}, {revoked})",
        user=account.id,
        id=session,
    )
    return session


def test_sessions_that_ended_long_ago_are_deleted(user: Account, sql: Callable[..., list[Any]]) -> None:
    long_ago, lately, later = "now() - interval '31 days'", "now() - interval '29 days'", "now() + interval '1 day'"
    gone = [session_with(sql, user, long_ago) for _ in range(3)] + [session_with(sql, user, later, long_ago)]
    kept = [session_with(sql, user, lately), session_with(sql, user, later, lately), session_with(sql, user, later)]
    assert purge_sessions(keep=30 * DAY, dry_run=True).removed == len(gone)
    done = purge_sessions(keep=30 * DAY, batch=2)
    assert (done.removed, done.more) == (len(gone), False)
    left = {row.id for row in sql("SELECT id FROM sessions WHERE user_id = :user", user=user.id)}
    assert left == {*kept, user.session_id}


def test_rows_that_somebody_holds_are_left_for_the_next_time(
    user: Account, sql: Callable[..., list[Any]], engine: Engine
) -> None:
    old = "now() - interval '40 days'"
    held, free = session_with(sql, user, old), session_with(sql, user, old)
    with engine.begin() as connection:
        connection.execute(text("SELECT 1 FROM sessions WHERE id = :id FOR UPDATE"), {"id": held})
        assert purge_sessions(keep=30 * DAY).removed == 1
    assert not sql("SELECT 1 FROM sessions WHERE id = :id", id=free)
    assert purge_sessions(keep=30 * DAY).removed == 1


def test_purging_stops_when_its_time_is_over(user: Account, sql: Callable[..., list[Any]]) -> None:
    for _ in range(3):
        session_with(sql, user, "now() - interval '40 days'")
    first = purge_sessions(keep=30 * DAY, batch=2, seconds=0)
    assert (first.removed, first.more) == (2, True)
    assert purge_sessions(keep=30 * DAY, batch=2).removed == 1


def test_api_keys_that_ended_long_ago_are_deleted(
    flask_app: Flask, engine: Engine, user: Account, sql: Callable[..., list[Any]]
) -> None:
    purge_api_keys(keep=DAY)
    long_ago, lately, later = "now() - interval '91 days'", "now() - interval '89 days'", "now() + interval '1 day'"
    ends = [("expires_at", long_ago), ("revoked_at", long_ago), ("expires_at", long_ago)]
    stays = [("expires_at", lately), ("revoked_at", lately), ("expires_at", later), ("last_used_at", long_ago)]
    gone, kept = [make_key(flask_app, user) for _ in ends], [make_key(flask_app, user) for _ in stays]
    for key, (column, moment) in zip([*gone, *kept], [*ends, *stays], strict=True):
        change_key(engine, key, f"{column} = {moment}")
    assert purge_api_keys(keep=90 * DAY, dry_run=True).removed == len(gone)
    done = purge_api_keys(keep=90 * DAY, batch=2)
    assert (done.removed, done.more) == (len(gone), False)
    left = {row.id for row in sql("SELECT id FROM api_keys WHERE user_id = :user", user=user.id)}
    assert left == {key.id for key in kept}
    client = flask_app.test_client()
    answers = [client.get("/api/conversations", headers=key.headers) for key in (gone[0], kept[0], kept[2])]
    assert [answer.status_code for answer in answers] == [401, 401, 200]
    told = [answer.get_json()["detail"] for answer in answers[:2]]
    assert ["no such" in told[0], "expired" in told[1]] == [True, True]


def test_keys_are_forgotten_when_their_time_has_passed(
    user: Account, other_user: Account, make_turn: Callable[..., UUID], sql: Callable[..., list[Any]]
) -> None:
    hour = 3600
    old = [make_turn(user, key=f"old {number}", age=25 * hour, ended=True) for number in range(5)]
    old.append(make_turn(other_user, key="old 0", age=25 * hour, ended=True))
    young = make_turn(user, key="young", age=23 * hour, ended=True)
    running = make_turn(user, key="running", age=25 * hour)
    for key, expires in (("past", "now() - interval '1 s'"), ("future", "now() + interval '1 h'")):
        sql(
            "INSERT INTO idempotency_keys (user_id, key, request_hash, status, response, expires_at)"
            f" VALUES (:user, :key, decode(repeat('00', 32), 'hex'), 201, :response, {expires})",
            user=user.id,
            key=key,
            response=orjson.dumps({"id": 1}).decode(),
        )
    tried = free_keys(batch=2, dry_run=True)
    assert (tried.answers, tried.turns) == (1, len(old))
    done = free_keys(batch=2)
    assert (done.answers, done.turns, done.more) == (1, len(old), False)
    known = turns_of(sql, user) | turns_of(sql, other_user)
    assert {turn for turn, row in known.items() if row.idempotency_key is None} == set(old)
    assert all((row.idempotency_key is None) == (row.request_hash is None) for row in known.values())
    assert {known[young].idempotency_key, known[running].idempotency_key} == {"young", "running"}
    assert [row.key for row in sql("SELECT key FROM idempotency_keys WHERE user_id = :u", u=user.id)] == ["future"]
    assert make_turn(user, key="old 0", ended=True)  # it can be used anew
    sql("UPDATE turns SET status = 'failed', finished_at = now() WHERE id = :id", id=running)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (care.STALE_TURNS, "uq_turns_running"),
        (care.FREE_TURN_KEYS, "uq_turns_idempotency_key"),
        (care.COUNT_TURN_KEYS, "uq_turns_idempotency_key"),
    ],
)
def test_turns_are_found_by_the_small_indexes(engine: Engine, user: Account, statement: Statement, index: str) -> None:
    conversation = make_conversation(engine, user)
    everything = {
        "stale_seconds": 1,
        "keep": 86_400,
        "batch": 100,
        "after_key": "",
        **dict.fromkeys(("after_user", "after_id"), UUID(int=0)),
    }
    with engine.connect() as connection:  # rolled back at the end
        connection.execute(
            text("""
            INSERT INTO turns (user_id, id, conversation_id, attempt, status, position, provider, heartbeat_at,
                               started_at, finished_at, idempotency_key, request_hash)
            SELECT :user, gen_random_uuid(), :conversation, gen_random_uuid(), 'completed', 1, 'demo', now(), now(),
                   now(), CASE WHEN n % 20 = 0 THEN 'key ' || n END, CASE WHEN n % 20 = 0 THEN '\\x00'::bytea END
              FROM generate_series(1, 20000) AS n"""),
            {"user": user.id, "conversation": conversation},
        )
        connection.execute(text("ANALYZE turns"))
        plan = connection.exec_driver_sql(f"EXPLAIN {statement.sql}", everything).scalars().all()
    assert any(index in line for line in plan), plan
    assert not any("Seq Scan on turns" in line for line in plan), plan


def job_run(sql: Callable[..., list[Any]], job: str, days: float, status: str = "succeeded") -> UUID:
    run = new_id()
    sql(
        "INSERT INTO job_runs (id, job, status, started_at, finished_at) VALUES (:id, :job, :status,"
        " now() - make_interval(secs => :age), CASE WHEN :status <> 'running' THEN now() END)",
        id=run,
        job=job,
        status=status,
        age=days * 86_400,
    )
    return run


def test_the_history_is_kept_as_long_as_it_should_be(sql: Callable[..., list[Any]]) -> None:
    usual, brief, former = (f"test.{new_id().hex}" for _ in range(3))
    jobs = [
        Job(name=usual, does="x", longest=DAY),
        Job(name=brief, does="x", longest=DAY, keep=7 * DAY),
    ]
    gone = [job_run(sql, name, days) for name, days in ((usual, 91), (former, 91), (brief, 8), (brief, 9), (brief, 10))]
    kept = [job_run(sql, name, days) for name, days in ((usual, 89), (former, 89), (brief, 6))]
    kept.append(job_run(sql, usual, 100, "running"))
    assert purge_job_runs(keep=90 * DAY, jobs=jobs, dry_run=True).removed == len(gone)
    assert purge_job_runs(keep=90 * DAY, jobs=jobs, batch=2).removed == len(gone)
    left = {row.id for row in sql("SELECT id FROM job_runs WHERE job = ANY(:jobs)", jobs=[usual, brief, former])}
    assert left == set(kept)
    assert purge_job_runs(keep=DAY, jobs=jobs, batch=1, seconds=0).more
    sql("DELETE FROM job_runs WHERE job = ANY(:jobs)", jobs=[usual, brief, former])


def test_runs_whose_worker_is_gone_are_closed(sql: Callable[..., list[Any]]) -> None:
    short, long = f"test.{new_id().hex}", f"test.{new_id().hex}"
    jobs = [Job(name=short, does="x", longest=timedelta(hours=1)), Job(name=long, does="x", longest=2 * DAY)]
    unknown = f"test.{new_id().hex}"
    names = {job_run(sql, name, days, "running"): (name, days) for name in (short, long, unknown) for days in (1, 3)}
    assert close_lost(jobs=jobs, dry_run=True).closed >= len(names)
    close_lost(jobs=jobs)
    rows = sql("SELECT id, status, finished_at FROM job_runs WHERE id = ANY(:ids)", ids=list(names))
    lost = {names[row.id] for row in rows if row.status == "lost" and row.finished_at is not None}
    assert lost == {(short, 1), (short, 3), (long, 3), (unknown, 3)}
    sql("DELETE FROM job_runs WHERE job = ANY(:jobs)", jobs=[short, long, unknown])


def test_when_a_job_last_ran_and_succeeded(sql: Callable[..., list[Any]]) -> None:
    name = f"test.{new_id().hex}"
    never = Job(name=f"test.{new_id().hex}", does="x", longest=DAY)
    for days, status in ((3, "succeeded"), (2, "failed"), (1, "skipped")):
        job_run(sql, name, days, status)
    known, unknown = job_times(jobs=[Job(name=name, does="x", longest=DAY), never])
    assert known.succeeded is not None
    assert known.attempted is not None
    [age] = sql("SELECT extract(day FROM now() - CAST(:moment AS timestamptz)) AS days", moment=known.attempted)
    assert age.days == 2
    assert (unknown.job, unknown.attempted, unknown.succeeded) == (never.name, None, None)
