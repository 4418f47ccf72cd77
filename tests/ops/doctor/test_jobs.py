"""A silent beat, jobs that failed or are late, a broker that is away, queues that pile up."""

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from app.jobs import MAINTENANCE
from ops import embedded
from ops.care.job_runs import remember_known
from ops.catalogue import JOBS
from ops.checks import jobs, probe
from ops.checks.jobs import LATE
from ops.levels import Level
from tests.database import run_folder
from tests.ops.doctor.conftest import Ward
from tests.ops.doctor.rows import ran

DAY, MINUTE, SECOND = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)
SCHEDULED = [job for job in JOBS if job.schedule]


def test_a_beat_that_was_never_heard(ward: Ward) -> None:
    (finding,) = ward.ask("beat.alive").findings
    assert finding.level is Level.CRITICAL
    assert "never been heard" in finding.what


@pytest.mark.parametrize(
    ("silence", "level"),
    [(30 * SECOND, Level.OK), (3 * MINUTE, Level.WARNING), (10 * MINUTE, Level.CRITICAL), (2 * DAY, Level.CRITICAL)],
)
def test_a_beat_that_has_fallen_silent(ward: Ward, silence: timedelta, level: Level) -> None:
    ran(ward, "beat.tick", silence)
    ran(ward, "beat.tick", SECOND, "failed")  # a worker that fails is not one that works
    answer = ward.ask("beat.alive")
    assert answer.level is level
    if answer.findings:
        assert answer.findings[0].evidence["last_status"] == "failed"


def test_a_job_that_failed_and_one_that_fails_again_and_again(ward: Ward) -> None:
    ran(ward, "sessions.purge_expired", DAY)
    ran(ward, "sessions.purge_expired", MINUTE, "failed", reason="the disk is full")
    for days in (4, 3, 2):
        ran(ward, "job_runs.purge", days * DAY, "failed", reason="still")
    ran(ward, "job_runs.purge", DAY, "skipped")
    ran(ward, "search.sweep", 2 * MINUTE, "failed")
    ran(ward, "search.sweep", MINUTE)
    ran(ward, "turns.close_stale", MINUTE, "lost")
    found = {finding.what.split()[4]: finding for finding in ward.ask("jobs.failed").findings}
    assert {job: finding.level for job, finding in found.items()} == {
        "sessions.purge_expired": Level.WARNING,
        "job_runs.purge": Level.CRITICAL,
        "turns.close_stale": Level.WARNING,
    }
    assert "the disk is full" in found["sessions.purge_expired"].what
    assert found["job_runs.purge"].evidence["in_a_row"] == 3
    assert "was cut off" in found["turns.close_stale"].what


def test_where_no_job_ever_ran_nothing_can_be_late(ward: Ward) -> None:
    answer = ward.ask("jobs.overdue")
    assert answer.level is Level.UNKNOWN
    assert answer.findings == ()


def test_what_was_run_by_hand_before_there_was_a_beat_makes_nothing_late(ward: Ward) -> None:
    ran(ward, "sessions.purge_expired", 40 * DAY, by_hand=True)
    assert ward.ask("jobs.overdue").level is Level.UNKNOWN
    ran(ward, "beat.tick", MINUTE)
    for job in SCHEDULED:
        if job.name != "sessions.purge_expired":
            ran(ward, job.name, SECOND)
    assert ward.ask("jobs.overdue").level is Level.OK


def all_ran_in_time(ward: Ward, *but: str) -> None:
    for job in SCHEDULED:
        if job.name not in but:
            ran(ward, job.name, SECOND)


def test_jobs_that_ran_in_time_are_not_late_however_rarely_they_run(ward: Ward) -> None:
    all_ran_in_time(ward)
    assert ward.ask("jobs.overdue").level is Level.OK


def test_a_job_that_missed_its_slots(ward: Ward) -> None:
    all_ran_in_time(ward, "sessions.purge_expired", "search.sweep")
    ran(ward, "search.sweep", timedelta(hours=6))
    ran(ward, "sessions.purge_expired", SECOND)
    (finding,) = ward.ask("jobs.overdue").findings
    assert finding.level is Level.WARNING  # a beat that is back after some hours
    ward.run("DELETE FROM job_runs WHERE job = 'sessions.purge_expired'")
    ran(ward, "sessions.purge_expired", 6 * DAY)
    (finding,) = ward.ask("jobs.overdue").findings
    assert finding.level is Level.CRITICAL
    assert set(finding.evidence) == {"sessions.purge_expired", "search.sweep"}
    assert finding.what.startswith("2 jobs have not run")


def test_a_job_that_is_new_here_is_late_only_from_its_first_slot_on(ward: Ward) -> None:
    """An installation that has run for an hour owes nobody what was due yesterday."""
    ran(ward, "beat.tick", timedelta(hours=3))
    all_ran_in_time(ward, "duties.monthly", "duties.weekly", "figures.record")
    (finding,) = ward.ask("jobs.overdue").findings
    monthly = next(job for job in SCHEDULED if job.name == "duties.monthly")
    assert monthly.schedule is not None
    due = monthly.schedule.next_slot(datetime.now(UTC) - timedelta(hours=3)) + monthly.longest + LATE
    assert ("duties.monthly" in finding.evidence) is (due < datetime.now(UTC))
    assert "figures.record" in finding.evidence


def test_a_job_that_an_upgrade_brought_is_due_in_its_next_slot(ward: Ward) -> None:
    ran(ward, "beat.tick", 60 * DAY)
    all_ran_in_time(ward, "duties.weekly", "search.sweep")
    ran(ward, "search.sweep", DAY)  # an old one, whose slots since then are missed all the same
    assert "duties.weekly" in ward.ask("jobs.overdue").findings[0].evidence  # nobody wrote down that it is new
    with ward.flask_app.app_context():
        assert remember_known(jobs=[job for job in JOBS if job.name != "duties.weekly"])
        assert set(ward.ask("jobs.overdue").findings[0].evidence) == {"search.sweep"}  # no worker has heard of it yet
        assert remember_known()
        assert not remember_known()
    assert set(ward.ask("jobs.overdue").findings[0].evidence) == {"search.sweep"}
    ward.run("UPDATE settings SET value = jsonb_set(value, '{duties.weekly}', to_jsonb(now() - interval '8 days'))")
    assert set(ward.ask("jobs.overdue").findings[0].evidence) == {"search.sweep", "duties.weekly"}
    ward.run("UPDATE settings SET value = jsonb_set(value, '{duties.weekly}', to_jsonb(now() + interval '8 days'))")
    assert set(ward.ask("jobs.overdue").findings[0].evidence) == {"search.sweep", "duties.weekly"}  # a clock was wrong


def test_runs_dated_in_the_future_are_told_and_hide_nothing(ward: Ward) -> None:
    ran(ward, "beat.tick", 10 * MINUTE)
    ran(ward, "beat.tick", -3 * DAY)
    assert ward.ask("beat.alive").level is Level.CRITICAL
    all_ran_in_time(ward, "search.sweep")
    ran(ward, "search.sweep", 2 * DAY)
    ran(ward, "search.sweep", DAY, "failed")
    ran(ward, "search.sweep", -3 * DAY)
    ahead, late = ward.ask("jobs.overdue").findings
    assert set(ahead.evidence) == {"beat.tick", "search.sweep"}
    assert set(late.evidence) == {"search.sweep"}
    assert len(ward.ask("jobs.failed").findings) == 1
    assert ahead.sql is not None
    ward.run(ahead.sql)
    assert len(ward.ask("jobs.overdue").findings) == 1


def test_without_a_broker_nobody_knows_what_waits(ward: Ward) -> None:
    assert ward.flask_app.extensions["jobs"].broker is None
    assert ward.ask("queue.waiting").level is Level.UNKNOWN


def test_a_run_by_hand_right_before_its_slot_counts_for_it() -> None:
    daily = next(job for job in SCHEDULED if job.name == "sessions.purge_expired")
    assert daily.schedule is not None
    slot = daily.schedule.slot(datetime.now(UTC))
    known = slot - 2 * MINUTE
    long_after = slot + daily.longest + 2 * LATE
    assert jobs._missed(daily, known, known, long_after) is None
    assert jobs._missed(daily, slot - DAY, slot - 2 * DAY, long_after) == slot
    assert jobs._missed(daily, slot - DAY, slot - 2 * DAY, slot + LATE) is None


def test_a_host_whose_clock_is_wrong_finds_nothing_late(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Ahead":
            return cls.fromtimestamp(datetime.now(UTC).timestamp() + 3 * 86_400, tz)

    all_ran_in_time(ward)
    for module in (jobs, probe):
        monkeypatch.setattr(module, "datetime", Ahead)
    assert ward.ask("beat.alive").level is Level.OK
    assert ward.ask("jobs.overdue").level is Level.OK


@pytest.fixture
def broker() -> Iterator[str]:
    """A Redis, shared by the run; this test's database in it is the last one."""
    with embedded.lease_redis(run_folder(), durable=False) as lease:
        url = f"{lease.url.rsplit('/', 1)[0]}/15"
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        yield url


def test_a_broker_that_is_there_and_one_that_is_not(admit: Callable[..., Ward], broker: str) -> None:
    there = admit(jobs={"broker_url": SecretStr(broker)})
    assert there.ask("queue.broker").level is Level.OK
    assert there.ask("queue.waiting").level is Level.OK
    with socket.create_server(("127.0.0.1", 0)) as taken:  # nobody listens there once it is closed
        port = taken.getsockname()[1]
    away = admit(jobs={"broker_url": SecretStr(f"redis://:a-password@127.0.0.1:{port}/0")})
    answer = away.ask("queue.broker")
    assert answer.level is Level.CRITICAL
    assert away.ask("queue.waiting").level is Level.UNKNOWN
    assert "a-password" not in repr(answer) + repr(away.ask("queue.waiting"))


def test_without_a_broker_nothing_is_known_of_it(ward: Ward) -> None:
    assert ward.ask("queue.broker").level is Level.UNKNOWN


@pytest.mark.parametrize(("many", "level"), [(100, Level.WARNING), (3, Level.CRITICAL)])
def test_a_queue_that_piles_up(
    admit: Callable[..., Ward], broker: str, monkeypatch: pytest.MonkeyPatch, many: int, level: Level
) -> None:
    monkeypatch.setattr(jobs, "WAITING", 3)
    monkeypatch.setattr(jobs, "MANY_WAITING", many)
    ward = admit(jobs={"broker_url": SecretStr(broker)})
    with redis.Redis.from_url(broker) as client:
        client.rpush(MAINTENANCE, *range(4))
    (finding,) = ward.ask("queue.waiting").findings
    assert finding.level is level
    assert finding.evidence == {"queue": MAINTENANCE, "waiting": 4}
