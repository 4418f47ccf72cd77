"""Slots of schedules, and a beat after downtime or a change of the clock, on a real Redis."""

import pickle
import shelve
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
import redis

from app.errors import SettingsError
from app.jobs import MAINTENANCE
from ops.catalogue.declarations import Job
from ops.catalogue.schedules import Monthly, Schedule, daily, weekly
from tasks.schedule import Slots, SlotScheduler, make_beat

DAILY = Job(name="test.daily", description="x", time_limit=timedelta(minutes=1), schedule=Schedule(timedelta(days=1)))
OFTEN = Job(
    name="test.often", description="x", time_limit=timedelta(minutes=1), schedule=Schedule(timedelta(seconds=30))
)


def at(text: str) -> datetime:
    """Parse a time in UTC."""
    return datetime.fromisoformat(f"{text}+00:00")


@pytest.mark.parametrize(
    ("schedule", "moment", "slot"),
    [
        (Schedule(timedelta(seconds=30)), "2026-01-02T03:04:29.999", "2026-01-02T03:04:00"),
        (Schedule(timedelta(seconds=30)), "2026-01-02T03:04:30", "2026-01-02T03:04:30"),
        (Schedule(timedelta(seconds=30), timedelta(seconds=15)), "2026-01-02T03:04:14", "2026-01-02T03:03:45"),
        (Schedule(timedelta(days=1), timedelta(hours=3, minutes=10)), "2026-01-02T03:09", "2026-01-01T03:10"),
        (Schedule(timedelta(days=1), timedelta(hours=3, minutes=10)), "2026-01-02T03:10", "2026-01-02T03:10"),
        (Schedule(timedelta(hours=1), timedelta(minutes=20)), "1969-12-31T23:10", "1969-12-31T22:20"),
        (weekly(0, 5), "2026-01-05T04:59", "2025-12-29T05:00"),
        (weekly(0, 5), "2026-01-05T05:00", "2026-01-05T05:00"),
        (weekly(6, 23, 59), "2026-01-05T05:00", "2026-01-04T23:59"),
    ],
)
def test_slot_is_the_latest_scheduled_time(schedule: Schedule, moment: str, slot: str) -> None:
    assert schedule.slot(at(moment)) == at(slot)
    assert schedule.next_slot(at(moment)) == at(slot) + schedule.interval
    assert schedule.slot(at(slot)) == at(slot)


@pytest.mark.parametrize(
    ("moment", "slot", "following"),
    [
        ("2026-01-01T05:59:59", "2025-12-01T06:00", "2026-01-01T06:00"),
        ("2026-01-01T06:00", "2026-01-01T06:00", "2026-02-01T06:00"),
        ("2026-02-28T23:00", "2026-02-01T06:00", "2026-03-01T06:00"),
        ("2028-02-29T12:00", "2028-02-01T06:00", "2028-03-01T06:00"),
        ("2026-12-31T23:59", "2026-12-01T06:00", "2027-01-01T06:00"),
    ],
)
def test_monthly_schedule_has_one_slot_per_month(moment: str, slot: str, following: str) -> None:
    schedule = Monthly(1, timedelta(hours=6))
    assert schedule.slot(at(moment)) == at(slot)
    assert schedule.next_slot(at(moment)) == at(following)
    assert schedule.next_slot(at(moment)) - schedule.slot(at(moment)) <= schedule.interval


@pytest.mark.parametrize(("day", "hours"), [(0, 6), (29, 6), (31, 6), (1, 24), (1, -1)])
def test_day_that_some_months_lack_is_rejected(day: int, hours: int) -> None:
    with pytest.raises(ValueError, match="a day from 1 to 28"):
        Monthly(day, timedelta(hours=hours))


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (Schedule(timedelta(seconds=30)), "every 30 s"),
        (Schedule(timedelta(minutes=10)), "every 10 min"),
        (Schedule(timedelta(hours=1), timedelta(minutes=20)), "every 1 h"),
        (daily(3, 10), "03:10 UTC"),
        (weekly(0, 5), "Mondays, 05:00 UTC"),
        (weekly(3, 0), "Thursdays, 00:00 UTC"),
        (Monthly(2, timedelta(hours=6)), "day 2 of the month, 06:00 UTC"),
    ],
)
def test_schedule_as_text(schedule: Schedule, text: str) -> None:
    assert str(schedule) == text


@pytest.mark.parametrize("schedule", [daily(3, 10), weekly(0, 5), Monthly(1)])
def test_pickled_slots_are_equal(schedule: Schedule) -> None:
    slots = Slots(schedule)
    assert pickle.loads(pickle.dumps(slots)) == slots
    assert pickle.loads(pickle.dumps(slots)) != Slots(daily(3, 11))


@pytest.mark.parametrize(
    ("last", "due"),
    [
        ("2026-01-02T12:00:01", False),
        ("2026-01-02T12:00:29", False),
        ("2026-01-02T11:59:59", True),
        ("2026-01-01T00:00:00", True),
        ("2026-01-02T12:00:30", True),  # the clock was set back since
        ("2026-01-02T13:00:00", True),
    ],
)
def test_job_is_due_in_every_slot_except_its_last(last: str, due: bool) -> None:
    assert OFTEN.schedule is not None
    slots = Slots(OFTEN.schedule, nowfun=lambda: at("2026-01-02T12:00:20"))
    assert tuple(slots.is_due(at(last))) == (due, 10)


class Beat:
    """The scheduler of `celery beat`, whose ticks the test controls."""

    def __init__(self, home: Path, broker: str, queue: "redis.Redis[bytes]") -> None:
        self.celery_app = make_beat(broker, (DAILY, OFTEN), home)
        self.queue = queue
        self.scheduler = self.open()

    def open(self) -> SlotScheduler:
        """Create a scheduler on the file of the one before."""
        return SlotScheduler(self.celery_app, schedule_filename=self.celery_app.conf.beat_schedule_filename)

    def reopen(self) -> None:
        """Restart the scheduler."""
        self.scheduler.close()
        self.scheduler = self.open()

    def set_last_run(self, job: Job, ago: timedelta) -> None:
        """Set the time of a job's last message."""
        self.scheduler.schedule[job.name].last_run_at = datetime.now(UTC) - ago

    def send_due(self, ticks: int = 20) -> list[tuple[str, datetime]]:
        """Run `ticks` of the scheduler and return (job, slot) of each message sent."""
        self.queue.delete(MAINTENANCE)
        for _ in range(ticks):
            self.scheduler.tick()
        headers = [orjson.loads(raw)["headers"] for raw in reversed(self.queue.lrange(MAINTENANCE, 0, -1))]
        return [(header["task"], datetime.fromisoformat(header["slot"])) for header in headers]


@pytest.fixture
def beat(tmp_path: Path, broker: str, queue: "redis.Redis[bytes]") -> Iterator[Beat]:
    beat = Beat(tmp_path / "home", broker, queue)
    yield beat
    beat.scheduler.close()
    beat.celery_app.close()


def test_new_beat_sends_frequent_jobs_at_once(beat: Beat) -> None:
    first = [name for name, _ in beat.send_due()]
    assert OFTEN.name in first
    assert DAILY.name not in first
    beat.reopen()
    second = [name for name, _ in beat.send_due()]
    assert len(first) + len(second) <= 2  # a new slot may have begun


@pytest.mark.parametrize("ago", [timedelta(days=1), timedelta(days=30), -timedelta(days=1)])
def test_beat_sends_each_job_once_after_downtime(beat: Beat, ago: timedelta) -> None:
    beat.send_due()
    for job in (DAILY, OFTEN):
        beat.set_last_run(job, ago)
    beat.reopen()
    before = datetime.now(UTC)
    sent = beat.send_due()
    assert sorted(name for name, _ in sent if name == DAILY.name) == [DAILY.name]
    assert 1 <= len([name for name, _ in sent if name == OFTEN.name]) <= 2  # two if a new slot began
    for job in (DAILY, OFTEN):
        assert job.schedule is not None
        assert dict(reversed(sent))[job.name] in (job.schedule.slot(before), job.schedule.slot(datetime.now(UTC)))


def test_restarted_beat_does_not_send_a_slot_twice(beat: Beat) -> None:
    beat.set_last_run(DAILY, timedelta(days=1))
    assert [name for name, _ in beat.send_due() if name == DAILY.name] == [DAILY.name]
    beat.reopen()
    assert [name for name, _ in beat.send_due() if name == DAILY.name] == []


def test_clock_set_back_does_not_stop_beat(beat: Beat, monkeypatch: pytest.MonkeyPatch) -> None:
    beat.send_due()
    hours_ahead = 5 * 3600.0
    beat.scheduler._ahead += hours_ahead  # the heap was filled while the clock was ahead
    assert beat.scheduler._heap is not None
    beat.scheduler._heap[:] = [entry._replace(time=entry.time + hours_ahead) for entry in beat.scheduler._heap]
    beat.set_last_run(DAILY, -timedelta(seconds=hours_ahead) - timedelta(days=1))
    assert [name for name, _ in beat.send_due() if name == DAILY.name] == [DAILY.name]


@pytest.mark.parametrize(
    "entries",
    [
        b"not a pickle",
        b"cno_such_module\nNoSuchClass\n.",  # of a release in which a class had another place
        b"cops.catalogue.jobs\nNoSuchClass\n.",
        pickle.dumps(["not", "entries"]),
        b"",
    ],
)
def test_unreadable_schedule_file_is_replaced(beat: Beat, entries: bytes) -> None:
    beat.scheduler.close()
    with shelve.open(beat.scheduler.schedule_filename) as store:
        cast(Any, store).dict[b"entries"] = entries
    beat.scheduler = beat.open()
    assert OFTEN.name in [name for name, _ in beat.send_due()]
    beat.set_last_run(DAILY, timedelta(days=1))
    beat.reopen()
    assert [name for name, _ in beat.send_due() if name == DAILY.name] == [DAILY.name]


def test_unwritable_home_is_named(tmp_path: Path, broker: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"file.*: Not a directory; .* set PARLEY_HOME"):
        make_beat(broker, (DAILY,), tmp_path / "file" / "home")


def test_beats_on_one_home_have_separate_files(tmp_path: Path, broker: str) -> None:
    files = [make_beat(broker, (DAILY,), tmp_path).conf.beat_schedule_filename for _ in range(3)]
    assert files == [str(tmp_path / "run" / f"beat-{number}") for number in (1, 2, 3)]
