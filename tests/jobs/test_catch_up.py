"""Jobs whose slot was missed, as by a beat on a new home: enqueued by the next tick, once, also monthly ones."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
import redis
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine, text

from app.config import Settings
from app.factory import create_app
from app.jobs import MAINTENANCE, job_queue
from ops.catalogue.declarations import Job
from ops.catalogue.schedules import DAY, HOUR, Monthly, Schedule, daily, weekly
from ops.maintenance import catch_up
from ops.maintenance.catch_up import enqueue_missed
from ops.maintenance.job_runs import JobTimes

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
LIMIT = timedelta(minutes=10)
JOBS = tuple(
    Job(name=f"sample.{name}", description="Tests.", time_limit=LIMIT, schedule=schedule)
    for name, schedule in {
        "daily": daily(5),
        "weekly": weekly(0, 5),
        "monthly": Monthly(1, timedelta(hours=5)),
        "hourly": Schedule(HOUR),
    }.items()
)
SLOTS = {"sample.daily": NOW - 7 * HOUR, "sample.weekly": NOW - 2 * DAY - 7 * HOUR}
SLOTS["sample.monthly"] = datetime(2026, 3, 1, 5, tzinfo=UTC)

Enqueue = Callable[..., dict[str, datetime]]


@pytest.fixture
def enqueue(settings: Settings, broker: str, queue: "redis.Redis[bytes]") -> Enqueue:
    """Return a function that enqueues missed jobs, and returns the slots of the messages in the queue by job."""
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(broker)})
    flask_app: Flask = create_app(replace(settings, jobs=jobs))

    def enqueue(last: datetime | None, *, now: datetime = NOW, jobs: tuple[Job, ...] = JOBS) -> dict[str, datetime]:
        queue.delete(MAINTENANCE)
        with flask_app.app_context():
            times = [JobTimes(job.name, last, last) for job in jobs]
            names = enqueue_missed(times, now=now, jobs=jobs)
            assert job_queue().drain(30)
        headers = [orjson.loads(raw)["headers"] for raw in queue.lrange(MAINTENANCE, 0, -1)]
        assert sorted(header["task"] for header in headers) == sorted(names)
        return {header["task"]: datetime.fromisoformat(header["slot"]) for header in headers}

    catch_up._enqueued.clear()
    return enqueue


@pytest.mark.parametrize("absence", [timedelta(days=4), timedelta(days=40), timedelta(days=400)])
def test_missed_jobs_are_enqueued_once_for_their_last_slot(enqueue: Enqueue, absence: timedelta) -> None:
    assert enqueue(NOW - absence) == SLOTS
    assert enqueue(NOW - absence) == {}
    later = enqueue(NOW - absence, now=NOW + DAY)
    assert later == {"sample.daily": SLOTS["sample.daily"] + DAY}


def test_job_that_ran_after_its_slot_is_not_enqueued(enqueue: Enqueue) -> None:
    assert enqueue(NOW - 6 * HOUR) == {}
    assert enqueue(NOW - DAY) == {"sample.daily": SLOTS["sample.daily"]}


def test_job_is_not_enqueued_while_its_run_may_still_come(enqueue: Enqueue) -> None:
    slot = SLOTS["sample.monthly"]
    monthly = tuple(job for job in JOBS if job.name == "sample.monthly")
    ended = slot + LIMIT + catch_up.GRACE
    assert enqueue(slot - DAY, now=ended, jobs=monthly) == {}
    assert enqueue(slot - DAY, now=ended + timedelta(seconds=1), jobs=monthly) == {"sample.monthly": slot}


@pytest.mark.parametrize(("known", "missed"), [(NOW - 10 * DAY, True), (NOW - 2 * DAY, False), (None, False)])
def test_job_without_runs_is_due_since_a_worker_has_it(
    enqueue: Enqueue, engine: Engine, known: datetime | None, missed: bool
) -> None:
    job = replace(JOBS[2], name=f"sample.monthly_{NOW.timestamp():.0f}_{known and known.day}")
    if known is not None:
        value = orjson.dumps({job.name: known}).decode()
        with engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO settings AS known (key, value) VALUES ('jobs.known_since', CAST(:v AS jsonb))"
                    " ON CONFLICT (key) DO UPDATE SET value = known.value || excluded.value"
                ),
                {"v": value},
            )
    assert (job.name in enqueue(None, jobs=(job,))) is missed


def test_slot_before_the_kept_history_is_not_enqueued(enqueue: Enqueue) -> None:
    job = replace(JOBS[2], history_ttl=timedelta(days=2))
    assert enqueue(NOW - 40 * DAY, jobs=(job,)) == {}
