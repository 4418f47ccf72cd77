"""Maintenance jobs on a real database: what they delete and keep, batches, time limits, dry runs and locked rows."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.enums import TurnStatus
from app.ids import new_id
from app.repositories import maintenance
from app.repositories.statement import Statement
from ops.catalogue.declarations import Job
from ops.maintenance.api_keys import purge_api_keys
from ops.maintenance.idempotency_keys import purge_idempotency_keys
from ops.maintenance.job_runs import close_lost_runs, purge_job_runs, read_job_times
from ops.maintenance.sessions import purge_sessions
from ops.maintenance.turns import close_stale_turns
from tests.api.keys import change_key, make_key
from tests.factories import LoggedInUser, make_conversation

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _nothing_to_do(flask_app: Flask, engine: Engine) -> Iterator[None]:
    """Remove the rows of other tests, so that each job finds only the rows of its test."""
    with flask_app.app_context():
        close_stale_turns(stale_seconds=20)
        with engine.begin() as connection:  # turns that other tests have made impossible to close
            connection.execute(
                text(
                    "UPDATE turns SET status = 'failed', finished_at = now()"
                    " WHERE status = 'running' AND heartbeat_at < now() - interval '20 s'"
                )
            )
        purge_sessions(keep=20 * DAY)
        purge_idempotency_keys(keep=timedelta(hours=20))
        yield


@pytest.fixture
def sql(engine: Engine) -> Callable[..., list[Any]]:
    """Return a function that runs a statement and returns its rows."""

    def execute(statement: str, **parameters: Any) -> list[Any]:
        with engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    return execute


@pytest.fixture
def make_turn(engine: Engine, sql: Callable[..., list[Any]]) -> Callable[..., UUID]:
    """Return a function that creates a turn in a new conversation; running unless `ended`."""

    def create(
        account: LoggedInUser, *, silent: float = 0, key: str | None = None, age: float = 0, ended: bool = False
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

    return create


def turns_of(sql: Callable[..., list[Any]], account: LoggedInUser) -> dict[UUID, Any]:
    """Return the turns of a user, with the leases of their conversations, by id."""
    rows = sql(
        "SELECT turns.*, running_attempt FROM turns JOIN conversations ON conversations.user_id = turns.user_id"
        " AND conversations.id = turns.conversation_id WHERE turns.user_id = :user",
        user=account.id,
    )
    return {row.id: row for row in rows}


def test_only_turns_without_recent_heartbeat_are_closed(
    user: LoggedInUser, other_user: LoggedInUser, make_turn: Callable[..., UUID], sql: Callable[..., list[Any]]
) -> None:
    stale = [make_turn(owner, silent=31) for owner in (user, user, user, other_user)]
    live, ended = make_turn(user, silent=29), make_turn(user, silent=31, ended=True)
    dry_run = close_stale_turns(stale_seconds=30, dry_run=True)
    assert (dry_run.stale, dry_run.closed) == (4, 0)
    done = close_stale_turns(stale_seconds=30, batch=2)
    assert (done.stale, done.closed, done.more) == (4, 4, False)
    turns = turns_of(sql, user) | turns_of(sql, other_user)
    for turn in stale:
        assert (turns[turn].status, turns[turn].running_attempt) == ("interrupted", None)
        assert turns[turn].error["code"] == "interrupted"
        assert turns[turn].finished_at is not None
    assert (turns[live].status, turns[ended].status) == ("running", "completed")
    assert turns[live].running_attempt is not None
    assert close_stale_turns(stale_seconds=30).stale == 0


def test_locked_stale_turn_does_not_keep_others_open(
    user: LoggedInUser, make_turn: Callable[..., UUID], sql: Callable[..., list[Any]], engine: Engine
) -> None:
    held, *others = [make_turn(user, silent=100) for _ in range(3)]
    with engine.connect() as holder:
        query = "SELECT FROM conversations JOIN turns ON conversation_id = conversations.id WHERE turns.id = :id"
        holder.execute(text(f"{query} FOR UPDATE OF conversations"), {"id": held})
        done = close_stale_turns(stale_seconds=60)
        assert (done.stale, done.closed) == (3, 2)
        holder.rollback()
    assert {turns_of(sql, user)[turn].status for turn in others} == {"interrupted"}
    assert close_stale_turns(stale_seconds=60).closed == 1


def test_closing_stops_at_its_time_limit_and_reports_more(user: LoggedInUser, make_turn: Callable[..., UUID]) -> None:
    for _ in range(3):
        make_turn(user, silent=100)
    first = close_stale_turns(stale_seconds=60, batch=1, seconds=0)
    assert (first.closed, first.more) == (1, True)
    assert close_stale_turns(stale_seconds=60).closed == 2


def test_stale_turn_whose_lease_was_taken_over_is_not_closed(
    user: LoggedInUser, make_turn: Callable[..., UUID], sql: Callable[..., list[Any]]
) -> None:
    turn = make_turn(user, silent=100)
    sql("UPDATE conversations SET running_attempt = :other WHERE user_id = :user", other=new_id(), user=user.id)
    done = close_stale_turns(stale_seconds=60)
    assert (done.stale, done.closed) == (1, 0)
    assert turns_of(sql, user)[turn].status == "running"
    sql("UPDATE turns SET status = 'failed', finished_at = now() WHERE user_id = :user", user=user.id)


def session_with(sql: Callable[..., list[Any]], account: LoggedInUser, expires: str, revoked: str = "NULL") -> UUID:
    """Create a session; `expires` and `revoked` are SQL."""
    session = new_id()
    sql(
        "INSERT INTO sessions (user_id, id, refresh_hash, rotated_at, expires_at, revoked_at)"
        f" VALUES (:user, :id, decode(repeat('00', 32), 'hex'), now(), {expires}, {revoked})",
        user=account.id,
        id=session,
    )
    return session


def test_sessions_that_ended_before_the_retention_period_are_deleted(
    user: LoggedInUser, sql: Callable[..., list[Any]]
) -> None:
    long_ago, lately, later = "now() - interval '31 days'", "now() - interval '29 days'", "now() + interval '1 day'"
    purged = [session_with(sql, user, long_ago) for _ in range(3)] + [session_with(sql, user, later, long_ago)]
    kept = [session_with(sql, user, lately), session_with(sql, user, later, lately), session_with(sql, user, later)]
    assert purge_sessions(keep=30 * DAY, dry_run=True).deleted == len(purged)
    done = purge_sessions(keep=30 * DAY, batch=2)
    assert (done.deleted, done.more) == (len(purged), False)
    remaining = {row.id for row in sql("SELECT id FROM sessions WHERE user_id = :user", user=user.id)}
    assert remaining == {*kept, user.session_id}


def test_locked_sessions_are_deleted_by_the_next_run(
    user: LoggedInUser, sql: Callable[..., list[Any]], engine: Engine
) -> None:
    old = "now() - interval '40 days'"
    held, free = session_with(sql, user, old), session_with(sql, user, old)
    with engine.begin() as connection:
        connection.execute(text("SELECT 1 FROM sessions WHERE id = :id FOR UPDATE"), {"id": held})
        assert purge_sessions(keep=30 * DAY).deleted == 1
    assert not sql("SELECT 1 FROM sessions WHERE id = :id", id=free)
    assert purge_sessions(keep=30 * DAY).deleted == 1


def test_purge_stops_at_its_time_limit(user: LoggedInUser, sql: Callable[..., list[Any]]) -> None:
    for _ in range(3):
        session_with(sql, user, "now() - interval '40 days'")
    first = purge_sessions(keep=30 * DAY, batch=2, seconds=0)
    assert (first.deleted, first.more) == (2, True)
    assert purge_sessions(keep=30 * DAY, batch=2).deleted == 1


def test_api_keys_that_ended_before_the_retention_period_are_deleted(
    flask_app: Flask, engine: Engine, user: LoggedInUser, sql: Callable[..., list[Any]]
) -> None:
    purge_api_keys(keep=DAY)
    long_ago, lately, later = "now() - interval '91 days'", "now() - interval '89 days'", "now() + interval '1 day'"
    ended = [("expires_at", long_ago), ("revoked_at", long_ago), ("expires_at", long_ago)]
    current = [("expires_at", lately), ("revoked_at", lately), ("expires_at", later), ("last_used_at", long_ago)]
    purged, kept = [make_key(flask_app, user) for _ in ended], [make_key(flask_app, user) for _ in current]
    for key, (column, moment) in zip([*purged, *kept], [*ended, *current], strict=True):
        change_key(engine, key, f"{column} = {moment}")
    assert purge_api_keys(keep=90 * DAY, dry_run=True).deleted == len(purged)
    done = purge_api_keys(keep=90 * DAY, batch=2)
    assert (done.deleted, done.more) == (len(purged), False)
    remaining = {row.id for row in sql("SELECT id FROM api_keys WHERE user_id = :user", user=user.id)}
    assert remaining == {key.id for key in kept}
    client = flask_app.test_client()
    answers = [client.get("/api/conversations", headers=key.headers) for key in (purged[0], kept[0], kept[2])]
    assert [answer.status_code for answer in answers] == [401, 401, 200]
    details = [answer.get_json()["detail"] for answer in answers[:2]]
    assert ["no such" in details[0], "expired" in details[1]] == [True, True]


def test_expired_idempotency_keys_are_deleted(
    user: LoggedInUser, other_user: LoggedInUser, make_turn: Callable[..., UUID], sql: Callable[..., list[Any]]
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
    dry_run = purge_idempotency_keys(batch=2, dry_run=True)
    assert (dry_run.responses, dry_run.turns) == (1, len(old))
    done = purge_idempotency_keys(batch=2)
    assert (done.responses, done.turns, done.more) == (1, len(old), False)
    turns = turns_of(sql, user) | turns_of(sql, other_user)
    assert {turn for turn, row in turns.items() if row.idempotency_key is None} == set(old)
    assert all((row.idempotency_key is None) == (row.request_hash is None) for row in turns.values())
    assert {turns[young].idempotency_key, turns[running].idempotency_key} == {"young", "running"}
    assert [row.key for row in sql("SELECT key FROM idempotency_keys WHERE user_id = :u", u=user.id)] == ["future"]
    assert make_turn(user, key="old 0", ended=True)  # the key can be used for another request
    sql("UPDATE turns SET status = 'failed', finished_at = now() WHERE id = :id", id=running)


STATEMENTS = [value for value in vars(maintenance).values() if isinstance(value, Statement)]
OF_TURNS = [statement for statement in STATEMENTS if re.search(r"\bturns\b", statement.sql)]


@pytest.mark.parametrize("statement", OF_TURNS, ids=lambda statement: statement.name)
def test_maintenance_of_turns_uses_the_declared_index(engine: Engine, user: LoggedInUser, statement: Statement) -> None:
    """Most turns are neither running nor have a key, so no statement may read all of them."""
    conversation = make_conversation(engine, user)
    parameters = {
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
        plan = connection.exec_driver_sql(f"EXPLAIN {statement.sql}", parameters).scalars().all()
    assert statement.index is not None
    assert any(statement.index in line for line in plan), plan
    assert not any("Seq Scan on turns" in line for line in plan), plan


def job_run(sql: Callable[..., list[Any]], job: str, days: float, status: str = "succeeded") -> UUID:
    """Create a run that started `days` ago."""
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


def test_job_runs_are_kept_for_their_retention_period(sql: Callable[..., list[Any]]) -> None:
    regular, short_lived, removed = (f"test.{new_id().hex}" for _ in range(3))
    jobs = [
        Job(name=regular, description="x", time_limit=DAY),
        Job(name=short_lived, description="x", time_limit=DAY, history_ttl=7 * DAY),
    ]
    purged = [
        job_run(sql, name, days)
        for name, days in ((regular, 91), (removed, 91), (short_lived, 8), (short_lived, 9), (short_lived, 10))
    ]
    kept = [job_run(sql, name, days) for name, days in ((regular, 89), (removed, 89), (short_lived, 6))]
    kept.append(job_run(sql, regular, 100, "running"))
    assert purge_job_runs(keep=90 * DAY, jobs=jobs, dry_run=True).deleted == len(purged)
    assert purge_job_runs(keep=90 * DAY, jobs=jobs, batch=2).deleted == len(purged)
    remaining = {
        row.id for row in sql("SELECT id FROM job_runs WHERE job = ANY(:jobs)", jobs=[regular, short_lived, removed])
    }
    assert remaining == set(kept)
    assert purge_job_runs(keep=DAY, jobs=jobs, batch=1, seconds=0).more
    sql("DELETE FROM job_runs WHERE job = ANY(:jobs)", jobs=[regular, short_lived, removed])


def test_runs_longer_than_their_time_limit_are_closed_as_lost(sql: Callable[..., list[Any]]) -> None:
    short, long = f"test.{new_id().hex}", f"test.{new_id().hex}"
    jobs = [
        Job(name=short, description="x", time_limit=timedelta(hours=1)),
        Job(name=long, description="x", time_limit=2 * DAY),
    ]
    unknown = f"test.{new_id().hex}"
    names = {job_run(sql, name, days, "running"): (name, days) for name in (short, long, unknown) for days in (1, 3)}
    assert close_lost_runs(jobs=jobs, dry_run=True).closed >= len(names)
    close_lost_runs(jobs=jobs)
    rows = sql("SELECT id, status, finished_at FROM job_runs WHERE id = ANY(:ids)", ids=list(names))
    lost = {names[row.id] for row in rows if row.status == "lost" and row.finished_at is not None}
    assert lost == {(short, 1), (short, 3), (long, 3), (unknown, 3)}
    sql("DELETE FROM job_runs WHERE job = ANY(:jobs)", jobs=[short, long, unknown])


def test_job_times_are_the_last_attempt_and_the_last_success(sql: Callable[..., list[Any]]) -> None:
    name = f"test.{new_id().hex}"
    never = Job(name=f"test.{new_id().hex}", description="x", time_limit=DAY)
    for days, status in ((3, "succeeded"), (2, "failed"), (1, "skipped")):
        job_run(sql, name, days, status)
    times, no_times = read_job_times(jobs=[Job(name=name, description="x", time_limit=DAY), never])
    assert times.succeeded is not None
    assert times.attempted is not None
    [age] = sql("SELECT extract(day FROM now() - CAST(:moment AS timestamptz)) AS days", moment=times.attempted)
    assert age.days == 2
    assert (no_times.job, no_times.attempted, no_times.succeeded) == (never.name, None, None)
