"""One run of one job without Celery: leases, records, slots, and runs that were lost."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from app.errors import NotFound
from app.extensions import db
from app.factory import create_app
from app.ids import new_id
from ops.catalogue.declarations import Job
from ops.catalogue.schedules import Schedule
from ops.runs.leases import is_leased
from ops.runs.run import RunRequest, RunResult, run_job

TIMEOUT = 60  # seconds; reached only when something is broken


@dataclass(frozen=True)
class Report:
    """A job's report with a number and a time."""

    done: int
    when: datetime = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _context(flask_app: Flask) -> Iterator[None]:
    with flask_app.app_context():
        yield


@pytest.fixture
def plain() -> Job:
    return Job(name=f"test.{new_id().hex}", description="x", time_limit=timedelta(minutes=1), exclusive=False)


@pytest.fixture
def exclusive(plain: Job) -> Job:
    return replace(plain, exclusive=True)


@pytest.fixture
def scheduled(plain: Job) -> Job:
    return replace(plain, exclusive=True, schedule=Schedule(timedelta(minutes=1)))


@pytest.fixture
def rows(engine: Engine) -> Callable[[Job], list[Any]]:
    def read(job: Job) -> list[Any]:
        with engine.connect() as connection:
            statement = text("SELECT * FROM job_runs WHERE job = :job ORDER BY started_at, id")
            return list(connection.execute(statement, {"job": job.name}))

    return read


@pytest.fixture
def change(engine: Engine) -> Callable[..., None]:
    """Return a function that sets columns, given as SQL, of all runs of a job."""

    def update(job: Job, **columns: str) -> None:
        settings = ", ".join(f"{name} = {value}" for name, value in columns.items())
        with engine.begin() as connection:
            connection.execute(text(f"UPDATE job_runs SET {settings} WHERE job = :job"), {"job": job.name})

    return update


def message() -> RunRequest:
    """Return a request with a new message id."""
    return RunRequest(message_id=new_id().hex)


def for_slot(slot: datetime) -> RunRequest:
    """Return the request that beat sends for a slot."""
    return replace(message(), slot=slot)


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def run(job: Job, request: RunRequest, work: Callable[[], Any] = lambda: None) -> str:
    """Run a job and return its status."""
    return str(run_job(job, work, request).status)


def test_report_and_arguments_are_recorded(plain: Job, rows: Callable[[Job], list[Any]]) -> None:
    done = run_job(plain, lambda: Report(3), replace(message(), arguments={"id": "a\x00b"}, request_id="r"))
    [row] = rows(plain)
    assert (row.id, row.status, row.attempt, row.request_id) == (done.id, "succeeded", 1, "r")
    assert row.report == {"done": 3, "when": "2026-01-02T00:00:00+00:00"}
    assert row.arguments == {"id": "a\ufffdb"}


def test_parley_error_is_recorded_with_its_detail(plain: Job, rows: Callable[[Job], list[Any]]) -> None:
    def work() -> None:
        raise NotFound("There is no such thing.")

    failed = run_job(plain, work, message())
    assert isinstance(failed.error, NotFound)
    assert rows(plain)[0].reason == failed.reason == "There is no such thing."


def test_other_error_is_recorded_shortened_and_redacted(plain: Job, rows: Callable[[Job], list[Any]]) -> None:
    def work() -> None:
        raise ValueError("token=abcdef " + "\x00" * 10_000 + "é" * 10_000)

    run_job(plain, work, message())
    [row] = rows(plain)
    assert row.reason.startswith("ValueError: token=[redacted] ééé")
    assert len(row.reason) == 2000


def test_database_error_of_a_job_is_recorded(plain: Job, rows: Callable[[Job], list[Any]]) -> None:
    def work() -> None:
        with db.engine.connect() as connection:
            connection.execute(text("SELECT 1 / 0"))

    assert run(plain, message(), work) == "failed"
    assert "DivisionByZero" in rows(plain)[0].reason


def test_concurrent_runs_of_an_exclusive_job_are_skipped(
    flask_app: Flask, exclusive: Job, rows: Callable[[Job], list[Any]]
) -> None:
    barrier, skipped = threading.Barrier(8), threading.Semaphore(0)

    def work() -> None:
        for _ in range(7):  # until all others are skipped
            assert skipped.acquire(timeout=TIMEOUT)

    def attempt(_: int) -> RunResult:
        with flask_app.app_context():
            barrier.wait(TIMEOUT)
            result = run_job(exclusive, work, message())
            skipped.release()
            return result

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(run.status for run in pool.map(attempt, range(8)))
    assert statuses == ["skipped"] * 7 + ["succeeded"]
    assert {row.reason for row in rows(exclusive)} == {None, "another run of it is in progress"}


def test_lease_lasts_as_long_as_the_run(exclusive: Job) -> None:
    held: list[bool] = []
    for _ in range(2):
        assert run(exclusive, message(), lambda: held.append(is_leased(f"job.{exclusive.name}"))) == "succeeded"
    assert held == [True, True]
    assert not is_leased(f"job.{exclusive.name}")


def test_second_delivery_closes_the_lost_run(
    plain: Job, rows: Callable[[Job], list[Any]], change: Callable[..., None]
) -> None:
    request = message()
    assert run(plain, request) == "succeeded"
    change(plain, status="'running'", finished_at="NULL")  # as a killed worker leaves it
    assert run(plain, message()) == "succeeded"
    assert [row.status for row in rows(plain)] == [
        "running",
        "succeeded",
    ]  # another message does not show that it is lost
    assert run(plain, request) == "succeeded"
    assert [(row.status, row.attempt) for row in rows(plain)] == [("lost", 1), ("succeeded", 1), ("succeeded", 2)]
    assert rows(plain)[0].reason == "its worker ended before it did, or lost the database"


def test_run_with_the_lease_closes_earlier_running_rows(
    exclusive: Job, rows: Callable[[Job], list[Any]], change: Callable[..., None]
) -> None:
    run(exclusive, message())
    change(exclusive, status="'running'", finished_at="NULL")
    run(exclusive, message())
    assert [row.status for row in rows(exclusive)] == ["lost", "succeeded"]


@pytest.mark.parametrize("closed_as_lost", [False, True])
def test_fourth_delivery_fails_without_running(
    plain: Job, rows: Callable[[Job], list[Any]], change: Callable[..., None], closed_as_lost: bool
) -> None:
    request = message()
    for _ in range(3):
        run(plain, request)
    if closed_as_lost:
        change(plain, status="'lost'")
    else:
        change(plain, status="'running'", finished_at="NULL")
    result = run_job(plain, lambda: pytest.fail("it must not run"), request)
    assert result.status == "failed"
    assert "delivered 3 times" in str(result.reason)
    assert [row.status for row in rows(plain)] == ["lost", "lost", "failed"]


def test_run_closed_as_lost_by_mistake_still_succeeds(
    plain: Job, rows: Callable[[Job], list[Any]], change: Callable[..., None]
) -> None:
    assert run(plain, message(), lambda: change(plain, status="'lost'", finished_at="now()")) == "succeeded"
    assert rows(plain)[0].status == "succeeded"


def test_slot_runs_once(scheduled: Job, rows: Callable[[Job], list[Any]], change: Callable[..., None]) -> None:
    assert run(scheduled, for_slot(NOON)) == "succeeded"
    change(scheduled, finished_at="finished_at - interval '40 s'", started_at="started_at - interval '40 s'")
    assert run(scheduled, for_slot(NOON)) == "skipped"
    assert run(scheduled, for_slot(NOON + timedelta(minutes=1))) == "succeeded"
    assert rows(scheduled)[-1].slot == NOON + timedelta(minutes=1)


def test_failed_run_uses_its_slot(scheduled: Job) -> None:
    def work() -> None:
        raise ValueError

    assert run(scheduled, for_slot(NOON), work) == "failed"
    assert run(scheduled, for_slot(NOON), work) == "skipped"


def test_queued_slots_run_once(scheduled: Job, rows: Callable[[Job], list[Any]]) -> None:
    """Beat sends them while no worker runs."""
    statuses = [run(scheduled, for_slot(NOON + timedelta(minutes=minute))) for minute in range(20)]
    assert statuses == ["succeeded"] + ["skipped"] * 19
    assert rows(scheduled)[-1].reason == "it has just run"


def test_clock_set_back_does_not_stop_a_job(scheduled: Job, change: Callable[..., None]) -> None:
    assert run(scheduled, for_slot(NOON)) == "succeeded"
    change(scheduled, finished_at="finished_at + interval '1 hour'", started_at="started_at + interval '1 hour'")
    assert run(scheduled, for_slot(NOON)) == "succeeded"  # all clocks are an hour behind
    change(scheduled, finished_at="now() - interval '1 hour'", started_at="now() - interval '1 hour'")
    assert run(scheduled, for_slot(NOON)) == "succeeded"  # only beat's clock is


def test_requested_run_does_not_wait_for_a_slot(scheduled: Job) -> None:
    assert [run(scheduled, message()), run(scheduled, RunRequest())] == ["succeeded", "succeeded"]


def test_job_does_not_run_if_it_cannot_be_recorded(settings: Settings, plain: Job, exclusive: Job) -> None:
    unreachable = settings.database.model_copy(update={"url": "postgresql+psycopg2://none@127.0.0.1:1/none"})
    with create_app(replace(settings, database=unreachable)).app_context():
        for job in (plain, exclusive):
            with pytest.raises(DBAPIError):
                run_job(job, lambda: pytest.fail("it must not run"), message())


def test_end_is_recorded_after_all_connections_were_terminated(plain: Job, engine: Engine, database_url: str) -> None:
    observer = create_engine(database_url, poolclass=NullPool)

    def work() -> None:
        statement = text(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with observer.connect() as connection:
            assert connection.execute(statement).all()

    assert run(plain, message(), work) == "succeeded"
    with observer.connect() as connection:
        statement = text("SELECT status FROM job_runs WHERE job = :job")
        assert connection.execute(statement, {"job": plain.name}).scalars().all() == ["succeeded"]
    engine.dispose()  # drops the terminated connections


def test_scheduled_job_must_be_exclusive(plain: Job) -> None:
    with pytest.raises(ValueError, match="make it exclusive"):
        replace(plain, schedule=Schedule(timedelta(minutes=1)))
