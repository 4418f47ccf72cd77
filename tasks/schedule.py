"""Beat schedule: enqueues each job at the start of its slot, with the slot in the message's headers.

Slots are times of the calendar, so two beats enqueue the same slot, and the worker skips the second. After a downtime,
beat enqueues the last missed slot of each job, not all of them: `PersistentScheduler` stores when it last enqueued.
"""

import fcntl
import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import PersistentScheduler, ScheduleEntry, SchedulingError
from celery.schedules import BaseSchedule, schedstate

from app.errors import SettingsError
from app.jobs import MAINTENANCE, make_celery
from ops.catalogue.declarations import Job
from ops.catalogue.schedules import JobSchedule

MAX_BEATS = 100  # on one home
MAX_SLEEP = 5  # seconds; a change of the system clock is noticed within this
FREQUENT = timedelta(minutes=1)  # a new beat enqueues such a job at once, because a job without runs looks stopped
RETRY_SECONDS = 1.0  # after a message that the broker refused
MIN_SET_BACK = 1.0  # seconds; a smaller step back of the clock is ignored

_log = logging.getLogger("parley.jobs")
_locks: list[int] = []  # file descriptors, open until the process ends


class Slots(BaseSchedule):
    """A job's slots as a Celery schedule: due in any other slot than the last run's, also an earlier one."""

    def __init__(self, schedule: JobSchedule, nowfun: Any = None) -> None:
        super().__init__(nowfun=nowfun)
        self.schedule = schedule

    def is_due(self, last_run_at: datetime) -> Any:
        """Return whether the job is due, and after how many seconds to check again."""
        now = self.now()
        due = self.schedule.slot(now) != self.schedule.slot(last_run_at)
        return schedstate(due, (self.schedule.next_slot(now) - now).total_seconds())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slots) and other.schedule == self.schedule

    def __hash__(self) -> int:
        return hash(self.schedule)

    def __reduce__(self) -> Any:
        return Slots, (self.schedule, self.nowfun)


class SlotScheduler(PersistentScheduler):
    """A scheduler that adds the slot to each message and sends it again if the broker refuses it.

    It plans again when the clock is set back.
    """

    _ahead = float("-inf")  # of the wall clock before the monotonic clock, in seconds

    def setup_schedule(self) -> None:
        """Read the schedule file; begin a new one if it cannot be read, for example after a change of classes."""
        try:
            super().setup_schedule()
        except Exception:
            _log.warning(
                "the schedule file %s cannot be read; beat begins a new one", self.schedule_filename, exc_info=True
            )
            with suppress(Exception):
                self.close()
            for suffix in self.known_suffixes:
                Path(self.schedule_filename + suffix).unlink(missing_ok=True)
            super().setup_schedule()

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        ahead = time.time() - time.monotonic()
        if ahead < self._ahead - MIN_SET_BACK:
            self._heap = None  # else no job is due until the clock reaches its former time
        self._ahead = ahead
        return super().tick(*args, **kwargs)

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        now = datetime.now(UTC)
        headers = {"slot": entry.schedule.schedule.slot(now).isoformat(), "queued_at": now.isoformat()}
        entry.options = {**entry.options, "headers": headers}
        try:
            return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        except SchedulingError:
            # Celery counts the slot as run. The broker may accept the message soon, so the entry stays due.
            self.schedule[entry.name], self._heap = entry, None
            time.sleep(RETRY_SECONDS)
            raise


def make_beat(broker_url: str, jobs: Sequence[Job], home: Path) -> Celery:
    """Make a beat for the scheduled ones of `jobs`. Raises `SettingsError` if its file cannot be written."""
    celery_app = make_celery(broker_url)
    celery_app.conf.update(
        beat_scheduler=f"{__name__}:{SlotScheduler.__name__}",
        beat_schedule_filename=str(_schedule_file(home)),
        beat_schedule={job.name: _entry(job.name, job.schedule) for job in jobs if job.schedule is not None},
        beat_max_loop_interval=MAX_SLEEP,
        broker_connection_max_retries=None,  # retry until the broker is back
    )
    return celery_app


def _entry(name: str, schedule: JobSchedule) -> dict[str, Any]:
    entry: dict[str, Any] = {"task": name, "schedule": Slots(schedule), "options": {"queue": MAINTENANCE}}
    if schedule.interval <= FREQUENT:  # used only for a job that the schedule file does not contain yet
        entry["last_run_at"] = datetime.now(UTC) - schedule.interval
    return entry


def _schedule_file(home: Path) -> Path:
    """Return the schedule file of this beat. A second beat on the same home has another file."""
    folder = home / "run"
    try:
        home.mkdir(mode=0o711, parents=True, exist_ok=True)  # the users of the embedded servers need to enter
        folder.mkdir(mode=0o700, exist_ok=True)
        for number in range(1, MAX_BEATS + 1):
            descriptor = os.open(folder / f"beat-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            _locks.append(descriptor)
            return folder / f"beat-{number}"
    except OSError as error:
        raise SettingsError(
            f"{error.filename or folder}: {error.strerror}; beat stores its schedule there: set PARLEY_HOME to a "
            "folder that this user may write"
        ) from None
    raise SettingsError(f"{MAX_BEATS} beats run on {home} already")
