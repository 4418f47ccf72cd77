"""One run of one job, without Celery: alone, recorded, and never counted as running when it is not."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from app.errors import NotFound
from app.extensions import db
from app.factory import create_app
from app.models.columns import new_id
from ops.declarations import Job, Schedule
from ops.locks import lock_key
from ops.runs import Asked, Run, run_job
from tests.jobs.processes import eventually

WAIT = 60  # seconds, only reached by a fault


@dataclass(frozen=True)
class Report:
    done: int
    when: datetime = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _context(flask_app: Flask) -> Iterator[None]:
    with flask_app.app_context():
        yield


@pytest.fixture
def plain() -> Job:
    return Job(name=f"test.{new_id().hex}", does="x", longest=timedelta(minutes=1), exclusive=False)


@pytest.fixture
def exclusive(plain: Job) -> Job:
    return replace(plain, exclusive=True)


@pytest.fixture
def scheduled(plain: Job) -> Job:
    return replace(plain, exclusive=True, schedule=Schedule(timedelta(minutes=1)))


@pytest.fixture
def rows(engine: Engine) -> Callable[[Job], list[Any]]:
    def rows(job: Job) -> list[Any]:
        with engine.connect() as connection:
            statement = text("SELECT * FROM job_runs WHERE job = :job ORDER BY started_at, id")
            return list(connection.execute(statement, {"job": job.name}))

    return rows


@pytest.fixture
def change(engine: Engine) -> Callable[..., None]:
    """A function that sets columns, given as SQL, of all runs of a job."""

    def change(job: Job, **columns: str) -> None:
        settings = ", ".join(f"{name} = {value}" for name, value in columns.items())
        with engine.begin() as connection:
            connection.execute(text(f"UPDATE job_runs SET {settings} WHERE job = :job"), {"job": job.name})

    return change


def message() -> Asked:
    return Asked(message_id=new_id().hex)


def for_slot(slot: datetime) -> Asked:
    return replace(message(), slot=slot)


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def run(job: Job, asked: Asked, work: Callable[[], Any] = lambda: None) -> str:
    return str(run_job(job, work, asked).status)


def test_a_report_is_kept(plain: Job, rows: Callable[[Job], list[Any]]) -> None:
    done = run_job(plain, lambda: Report(3), replace(message(), arguments={"id": "a\x00b"}, request_id="r"))
    [row] = rows(plain)
    assert (row.id, row.status, row.attempt, row.request_id) == (done.id, "succeeded", 1, "r")
    assert row.report == {"done": 3, "when": "2026-01-02T00:00:00+00:00"}
    assert row.arguments == {"id": "a\ufffdb"}


def test_an_error_of_ours_is_told_in_its_own_words(plain: Job, rows: Callable[[Job], list[Any]]) -> None:
    def work() -> None:
        raise NotFound("There is no such thing.")

    failed = run_job(plain, work, message())
    assert isinstance(failed.error, NotFound)
    assert rows(plain)[0].reason == failed.reason == "There is no such thing."


def test_any_other_error_is_cut_and_without_secrets(plain: Job, rows: Callable[[Job], list[Any]]) -> None:
    def work() -> None:
        raise ValueError("token=abcdef " + "\x00" * 10_000 + "é" * 10_000)

    run_job(plain, work, message())
    [row] = rows(plain)
    assert row.reason.startswith("ValueError: token=[redacted] ééé")
    assert len(row.reason) == 2000


def test_a_job_may_fail_with_the_database_itself(plain: Job, rows: Callable[[Job], list[Any]]) -> None:
    def work() -> None:
        with db.engine.connect() as connection:
            connection.execute(text("SELECT 1 / 0"))

    assert run(plain, message(), work) == "failed"
    assert "DivisionByZero" in rows(plain)[0].reason


def test_only_one_of_many_runs_of_an_exclusive_job(
    flask_app: Flask, exclusive: Job, rows: Callable[[Job], list[Any]]
) -> None:
    gate, skipped = threading.Barrier(8), threading.Semaphore(0)

    def work() -> None:
        for _ in range(7):  # until all the others have been sent away
            assert skipped.acquire(timeout=WAIT)

    def one(_: int) -> Run:
        with flask_app.app_context():
            gate.wait(WAIT)
            ended = run_job(exclusive, work, message())
            skipped.release()
            return ended

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(run.status for run in pool.map(one, range(8)))
    assert statuses == ["skipped"] * 7 + ["succeeded"]
    assert {row.reason for row in rows(exclusive)} == {None, "another run of it holds its lock"}


def holder(job: Job) -> int:
    """The backend that holds the job's lock."""
    statement = text("SELECT pid FROM pg_locks WHERE (classid::bigint << 32 | objid::bigint) = :key AND granted")
    with db.engine.connect() as connection:
        return int(connection.execute(statement, {"key": lock_key(job.name)}).scalar_one())


def test_the_lock_is_given_back_and_its_connection_is_nobody_elses(exclusive: Job, engine: Engine) -> None:
    held: list[int] = []
    for _ in range(2):
        assert run(exclusive, message(), lambda: held.append(holder(exclusive))) == "succeeded"
    alive = text("SELECT pid FROM pg_stat_activity WHERE pid = ANY(:pids)")
    # A transaction would see the same picture for ever.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        eventually(lambda: not connection.execute(alive, {"pids": held}).all())


def test_the_direct_url_is_where_the_lock_is_taken(settings: Settings, exclusive: Job, database_url: str) -> None:
    direct = settings.database.model_copy(update={"direct_url": database_url})
    opened, held = list[int](), list[int]()
    with create_app(replace(settings, database=direct)).app_context():
        event.listen(db.engines["direct"], "connect", lambda raw, _: opened.append(raw.get_backend_pid()))
        assert run(exclusive, message(), lambda: held.append(holder(exclusive))) == "succeeded"
        db.engine.dispose()
    assert opened == held


def test_a_delivery_after_a_kill_closes_the_run_before(
    plain: Job, rows: Callable[[Job], list[Any]], change: Callable[..., None]
) -> None:
    asked = message()
    assert run(plain, asked) == "succeeded"
    change(plain, status="'running'", finished_at="NULL")  # as a killed worker leaves it
    assert run(plain, message()) == "succeeded"
    assert [row.status for row in rows(plain)] == ["running", "succeeded"]  # another message tells nothing of it
    assert run(plain, asked) == "succeeded"
    assert [(row.status, row.attempt) for row in rows(plain)] == [("lost", 1), ("succeeded", 1), ("succeeded", 2)]
    assert rows(plain)[0].reason == "its worker ended before it did, or lost the database"


def test_whoever_has_the_lock_knows_that_nobody_else_runs(
    exclusive: Job, rows: Callable[[Job], list[Any]], change: Callable[..., None]
) -> None:
    run(exclusive, message())
    change(exclusive, status="'running'", finished_at="NULL")
    run(exclusive, message())
    assert [row.status for row in rows(exclusive)] == ["lost", "succeeded"]


@pytest.mark.parametrize("taken_for_lost", [False, True])
def test_the_last_delivery_is_a_failure(
    plain: Job, rows: Callable[[Job], list[Any]], change: Callable[..., None], taken_for_lost: bool
) -> None:
    asked = message()
    for _ in range(3):
        run(plain, asked)
    if taken_for_lost:
        change(plain, status="'lost'")
    else:
        change(plain, status="'running'", finished_at="NULL")
    never = run_job(plain, lambda: pytest.fail("it must not run"), asked)
    assert never.status == "failed"
    assert "delivered 3 times" in str(never.reason)
    assert [row.status for row in rows(plain)] == ["lost", "lost", "failed"]


def test_one_that_was_taken_for_lost_ends_all_the_same(
    plain: Job, rows: Callable[[Job], list[Any]], change: Callable[..., None]
) -> None:
    assert run(plain, message(), lambda: change(plain, status="'lost'", finished_at="now()")) == "succeeded"
    assert rows(plain)[0].status == "succeeded"


def test_a_slot_runs_once(scheduled: Job, rows: Callable[[Job], list[Any]], change: Callable[..., None]) -> None:
    assert run(scheduled, for_slot(NOON)) == "succeeded"
    change(scheduled, finished_at="finished_at - interval '40 s'", started_at="started_at - interval '40 s'")
    assert run(scheduled, for_slot(NOON)) == "skipped"
    assert run(scheduled, for_slot(NOON + timedelta(minutes=1))) == "succeeded"
    assert rows(scheduled)[-1].slot == NOON + timedelta(minutes=1)


def test_a_failed_run_has_had_its_slot(scheduled: Job) -> None:
    def work() -> None:
        raise ValueError

    assert run(scheduled, for_slot(NOON), work) == "failed"
    assert run(scheduled, for_slot(NOON), work) == "skipped"


def test_slots_that_have_piled_up_are_one_run(scheduled: Job, rows: Callable[[Job], list[Any]]) -> None:
    """As when beats went on while no worker was there."""
    statuses = [run(scheduled, for_slot(NOON + timedelta(minutes=minute))) for minute in range(20)]
    assert statuses == ["succeeded"] + ["skipped"] * 19
    assert rows(scheduled)[-1].reason == "it has just run"


def test_a_clock_that_was_set_back_stops_no_job(scheduled: Job, change: Callable[..., None]) -> None:
    assert run(scheduled, for_slot(NOON)) == "succeeded"
    change(scheduled, finished_at="finished_at + interval '1 hour'", started_at="started_at + interval '1 hour'")
    assert run(scheduled, for_slot(NOON)) == "succeeded"  # all clocks are an hour behind
    change(scheduled, finished_at="now() - interval '1 hour'", started_at="now() - interval '1 hour'")
    assert run(scheduled, for_slot(NOON)) == "succeeded"  # the beat's clock is


def test_somebody_who_asks_by_hand_need_not_wait_for_a_slot(scheduled: Job) -> None:
    assert [run(scheduled, message()), run(scheduled, Asked())] == ["succeeded", "succeeded"]


def test_nothing_is_done_where_it_cannot_be_recorded(settings: Settings, plain: Job, exclusive: Job) -> None:
    nowhere = settings.database.model_copy(update={"url": "postgresql+psycopg2://nobody@127.0.0.1:1/none"})
    with create_app(replace(settings, database=nowhere)).app_context():
        for job in (plain, exclusive):
            with pytest.raises(DBAPIError):
                run_job(job, lambda: pytest.fail("it must not run"), message())


def test_an_end_is_recorded_although_the_connections_were_cut(plain: Job, engine: Engine, database_url: str) -> None:
    others = create_engine(database_url, poolclass=NullPool)

    def work() -> None:
        statement = text(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with others.connect() as connection:
            assert connection.execute(statement).all()

    assert run(plain, message(), work) == "succeeded"
    with others.connect() as connection:
        statement = text("SELECT status FROM job_runs WHERE job = :job")
        assert connection.execute(statement, {"job": plain.name}).scalars().all() == ["succeeded"]
    engine.dispose()  # what is left of the cut ones


def test_a_schedule_needs_an_exclusive_job(plain: Job) -> None:
    with pytest.raises(ValueError, match="make it exclusive"):
        replace(plain, schedule=Schedule(timedelta(minutes=1)))
