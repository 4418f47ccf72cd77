"""Checks of beat, jobs, broker and queue."""

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from app.jobs import MAINTENANCE
from ops import embedded
from ops.catalogue.jobs import JOBS
from ops.checks import context
from ops.doctor.checks import jobs
from ops.doctor.checks.jobs import GRACE
from ops.levels import Level
from ops.maintenance.job_runs import record_known_jobs
from tests.database import run_folder
from tests.ops.doctor.conftest import DoctorInstall
from tests.ops.doctor.rows import add_run

DAY, MINUTE, SECOND = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)
SCHEDULED = [job for job in JOBS if job.schedule]


def test_beat_without_any_run_is_critical(install: DoctorInstall) -> None:
    (finding,) = install.run_check("beat.alive").findings
    assert finding.level is Level.CRITICAL
    assert "has never run a job" in finding.message


@pytest.mark.parametrize(
    ("silence", "level"),
    [(30 * SECOND, Level.OK), (3 * MINUTE, Level.WARNING), (10 * MINUTE, Level.CRITICAL), (2 * DAY, Level.CRITICAL)],
)
def test_silent_beat_is_found(install: DoctorInstall, silence: timedelta, level: Level) -> None:
    add_run(install, "beat.tick", silence)
    add_run(install, "beat.tick", SECOND, "failed")  # a failed run does not count
    result = install.run_check("beat.alive")
    assert result.level is level
    if result.findings:
        assert result.findings[0].evidence["last_status"] == "failed"


def test_repeated_failures_are_critical(install: DoctorInstall) -> None:
    add_run(install, "sessions.purge_expired", DAY)
    add_run(install, "sessions.purge_expired", MINUTE, "failed", reason="the disk is full")
    for days in (4, 3, 2):
        add_run(install, "job_runs.purge", days * DAY, "failed", reason="still")
    add_run(install, "job_runs.purge", DAY, "skipped")
    add_run(install, "search.sweep", 2 * MINUTE, "failed")
    add_run(install, "search.sweep", MINUTE)
    add_run(install, "turns.close_stale", MINUTE, "lost")
    found = {finding.message.split()[4]: finding for finding in install.run_check("jobs.failed").findings}
    assert {job: finding.level for job, finding in found.items()} == {
        "sessions.purge_expired": Level.WARNING,
        "job_runs.purge": Level.CRITICAL,
        "turns.close_stale": Level.WARNING,
    }
    assert "the disk is full" in found["sessions.purge_expired"].message
    assert found["job_runs.purge"].evidence["in_a_row"] == 3
    assert "lost its worker" in found["turns.close_stale"].message


def test_installation_without_runs_is_unknown(install: DoctorInstall) -> None:
    result = install.run_check("jobs.overdue")
    assert result.level is Level.UNKNOWN
    assert result.findings == ()


def test_run_by_hand_without_a_beat_is_unknown(install: DoctorInstall) -> None:
    add_run(install, "sessions.purge_expired", 40 * DAY, by_hand=True)
    assert install.run_check("jobs.overdue").level is Level.UNKNOWN
    add_run(install, "beat.tick", MINUTE)
    for job in SCHEDULED:
        if job.name != "sessions.purge_expired":
            add_run(install, job.name, SECOND)
    assert install.run_check("jobs.overdue").level is Level.OK


def all_ran_in_time(install: DoctorInstall, *but: str) -> None:
    for job in SCHEDULED:
        if job.name not in but:
            add_run(install, job.name, SECOND)


def test_rare_jobs_on_time_are_not_overdue(install: DoctorInstall) -> None:
    all_ran_in_time(install)
    assert install.run_check("jobs.overdue").level is Level.OK


def test_missed_slots_are_overdue(install: DoctorInstall) -> None:
    all_ran_in_time(install, "sessions.purge_expired", "search.sweep")
    add_run(install, "search.sweep", timedelta(hours=6))
    add_run(install, "sessions.purge_expired", SECOND)
    (finding,) = install.run_check("jobs.overdue").findings
    assert finding.level is Level.WARNING  # as after some hours without a beat
    install.run("DELETE FROM job_runs WHERE job = 'sessions.purge_expired'")
    add_run(install, "sessions.purge_expired", 6 * DAY)
    (finding,) = install.run_check("jobs.overdue").findings
    assert finding.level is Level.CRITICAL
    assert set(finding.evidence) == {"sessions.purge_expired", "search.sweep"}
    assert finding.message.startswith("2 jobs are overdue")


def test_new_job_is_due_from_its_first_slot(install: DoctorInstall) -> None:
    """Slots before the installation do not count."""
    add_run(install, "beat.tick", timedelta(hours=3))
    all_ran_in_time(install, "routines.monthly", "routines.weekly", "stats.record")
    (finding,) = install.run_check("jobs.overdue").findings
    monthly = next(job for job in SCHEDULED if job.name == "routines.monthly")
    assert monthly.schedule is not None
    due = monthly.schedule.next_slot(datetime.now(UTC) - timedelta(hours=3)) + monthly.time_limit + GRACE
    assert ("routines.monthly" in finding.evidence) is (due < datetime.now(UTC))
    assert "stats.record" in finding.evidence


def test_job_of_an_upgrade_is_due_in_its_next_slot(install: DoctorInstall) -> None:
    add_run(install, "beat.tick", 60 * DAY)
    all_ran_in_time(install, "routines.weekly", "search.sweep")
    add_run(install, "search.sweep", DAY)  # an old run: its slots since then are missed
    assert (
        "routines.weekly" in install.run_check("jobs.overdue").findings[0].evidence
    )  # no worker has recorded it as new
    with install.flask_app.app_context():
        assert record_known_jobs(jobs=[job for job in JOBS if job.name != "routines.weekly"])
        assert set(install.run_check("jobs.overdue").findings[0].evidence) == {
            "search.sweep"
        }  # no worker has loaded it yet
        assert record_known_jobs()
        assert not record_known_jobs()
    assert set(install.run_check("jobs.overdue").findings[0].evidence) == {"search.sweep"}
    install.run(
        "UPDATE settings SET value = jsonb_set(value, '{routines.weekly}', to_jsonb(now() - interval '8 days'))"
    )
    assert set(install.run_check("jobs.overdue").findings[0].evidence) == {"search.sweep", "routines.weekly"}
    install.run(
        "UPDATE settings SET value = jsonb_set(value, '{routines.weekly}', to_jsonb(now() + interval '8 days'))"
    )
    assert set(install.run_check("jobs.overdue").findings[0].evidence) == {
        "search.sweep",
        "routines.weekly",
    }  # a clock was wrong


def test_future_runs_are_reported_and_ignored(install: DoctorInstall) -> None:
    add_run(install, "beat.tick", 10 * MINUTE)
    add_run(install, "beat.tick", -3 * DAY)
    assert install.run_check("beat.alive").level is Level.CRITICAL
    all_ran_in_time(install, "search.sweep")
    add_run(install, "search.sweep", 2 * DAY)
    add_run(install, "search.sweep", DAY, "failed")
    add_run(install, "search.sweep", -3 * DAY)
    ahead, late = install.run_check("jobs.overdue").findings
    assert set(ahead.evidence) == {"beat.tick", "search.sweep"}
    assert set(late.evidence) == {"search.sweep"}
    assert len(install.run_check("jobs.failed").findings) == 1
    assert ahead.sql is not None
    install.run(ahead.sql)
    assert len(install.run_check("jobs.overdue").findings) == 1


def test_queue_without_a_broker_is_unknown(install: DoctorInstall) -> None:
    assert install.flask_app.extensions["jobs"].broker is None
    assert install.run_check("queue.waiting").level is Level.UNKNOWN


def test_run_by_hand_just_before_a_slot_counts() -> None:
    daily = next(job for job in SCHEDULED if job.name == "sessions.purge_expired")
    assert daily.schedule is not None
    slot = daily.schedule.slot(datetime.now(UTC))
    known = slot - 2 * MINUTE
    long_after = slot + daily.time_limit + 2 * GRACE
    assert jobs._missed_slot(daily, known, known, long_after) is None
    assert jobs._missed_slot(daily, slot - DAY, slot - 2 * DAY, long_after) == slot
    assert jobs._missed_slot(daily, slot - DAY, slot - 2 * DAY, slot + GRACE) is None


def test_wrong_host_clock_makes_nothing_overdue(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Ahead":
            return cls.fromtimestamp(datetime.now(UTC).timestamp() + 3 * 86_400, tz)

    all_ran_in_time(install)
    for module in (jobs, context):
        monkeypatch.setattr(module, "datetime", Ahead)
    assert install.run_check("beat.alive").level is Level.OK
    assert install.run_check("jobs.overdue").level is Level.OK


@pytest.fixture
def broker() -> Iterator[str]:
    """Start a Redis for the test run, and use its last database."""
    with embedded.lease_redis(run_folder(), durable=False) as lease:
        url = f"{lease.url.rsplit('/', 1)[0]}/15"
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        yield url


def test_unreachable_broker_is_critical(make_install: Callable[..., DoctorInstall], broker: str) -> None:
    reachable = make_install(jobs={"broker_url": SecretStr(broker)})
    assert reachable.run_check("queue.broker").level is Level.OK
    assert reachable.run_check("queue.waiting").level is Level.OK
    with socket.create_server(("127.0.0.1", 0)) as taken:  # a free port once it is closed
        port = taken.getsockname()[1]
    unreachable = make_install(jobs={"broker_url": SecretStr(f"redis://:a-password@127.0.0.1:{port}/0")})
    result = unreachable.run_check("queue.broker")
    assert result.level is Level.CRITICAL
    assert unreachable.run_check("queue.waiting").level is Level.UNKNOWN
    assert "a-password" not in repr(result) + repr(unreachable.run_check("queue.waiting"))


def test_unconfigured_broker_is_unknown(install: DoctorInstall) -> None:
    assert install.run_check("queue.broker").level is Level.UNKNOWN


@pytest.mark.parametrize(("many", "level"), [(100, Level.WARNING), (3, Level.CRITICAL)])
def test_long_queue_is_found(
    make_install: Callable[..., DoctorInstall], broker: str, monkeypatch: pytest.MonkeyPatch, many: int, level: Level
) -> None:
    monkeypatch.setattr(jobs, "WAITING", 3)
    monkeypatch.setattr(jobs, "MANY_WAITING", many)
    install = make_install(jobs={"broker_url": SecretStr(broker)})
    with redis.Redis.from_url(broker) as client:
        client.rpush(MAINTENANCE, *range(4))
    (finding,) = install.run_check("queue.waiting").findings
    assert finding.level is level
    assert finding.evidence == {"queue": MAINTENANCE, "waiting": 4}


def test_pause_for_a_day_is_a_warning_and_hides_no_other_job(install: DoctorInstall) -> None:
    paused, late = "search.sweep", "sessions.purge_expired"
    for job in SCHEDULED:
        add_run(install, job.name, 10 * SECOND if job.name not in (paused, late) else 3 * DAY)
    reason = ("--reason", "the index is rebuilt")
    assert install.call("jobs", "pause", paused, *reason).exit_code == 0
    assert [finding.object for finding in install.run_check("jobs.overdue").findings] == ["overdue"]
    since = "jsonb_set(value, '{search.sweep,since}', to_jsonb(now() - interval '25 hours'))"
    install.run(f"UPDATE settings SET value = {since} WHERE key = 'jobs.paused'")
    found = {finding.object: finding for finding in install.run_check("jobs.overdue").findings}
    assert set(found) == {paused, "overdue"}
    assert found[paused].level is Level.WARNING
    assert "the index is rebuilt" in found[paused].message
    assert found[paused].remedy == f"Can it run again? flask ops jobs resume {paused}"
    assert paused not in found["overdue"].message
