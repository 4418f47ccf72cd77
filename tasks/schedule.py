"""The beat: sends each job of the catalogue when its next slot begins, and says in the message which slot it is for.

Slots are moments of the calendar, so two beats send the same ones, and the worker runs the second of two not again. One
that was away sends the last slot it missed of each job, not all of them: `PersistentScheduler` keeps when it last sent.
"""

import fcntl
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import PersistentScheduler, ScheduleEntry
from celery.schedules import BaseSchedule, schedstate

from app.errors import SettingsError
from app.jobs import MAINTENANCE, make_celery
from ops.declarations import Job, Slotted

MOST_BEATS = 100  # on one home
LONGEST_SLEEP = 5  # seconds; a clock that was set is noticed within this
OFTEN = timedelta(minutes=1)  # such a job a new beat sends at once: what never ran looks like what has stopped
SET_BACK = 1.0  # seconds by which a clock must have gone back to count as set

_locks: list[int] = []  # descriptors, open for as long as the process lives


class Slots(BaseSchedule):
    """A job's slots as Celery wants them: due in any slot but the last run's, be it an earlier one on a set clock."""

    def __init__(self, schedule: Slotted, nowfun: Any = None) -> None:
        super().__init__(nowfun=nowfun)
        self.schedule = schedule

    def is_due(self, last_run_at: datetime) -> Any:
        """Whether to send now, and in how many seconds to ask again."""
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
    """Names the slot in each message, and plans anew when the clock has been set back."""

    _ahead = float("-inf")  # of the clock that is never set

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        ahead = time.time() - time.monotonic()
        if ahead < self._ahead - SET_BACK:
            self._heap = None  # else nothing is due until the clock has caught up
        self._ahead = ahead
        return super().tick(*args, **kwargs)

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        now = datetime.now(UTC)
        headers = {"slot": entry.schedule.schedule.slot(now).isoformat(), "queued_at": now.isoformat()}
        entry.options = {**entry.options, "headers": headers}
        return super().apply_async(entry, producer=producer, advance=advance, **kwargs)


def make_beat(broker_url: str, jobs: Sequence[Job], home: Path) -> Celery:
    """A beat for those of `jobs` that have a schedule. Raises `SettingsError` where it cannot keep its file."""
    celery_app = make_celery(broker_url)
    celery_app.conf.update(
        beat_scheduler=f"{__name__}:{SlotScheduler.__name__}",
        beat_schedule_filename=str(_own_file(home)),
        beat_schedule={job.name: _entry(job.name, job.schedule) for job in jobs if job.schedule is not None},
        beat_max_loop_interval=LONGEST_SLEEP,
        broker_connection_max_retries=None,  # a beat outlasts any absence of its broker
    )
    return celery_app


def _entry(name: str, schedule: Slotted) -> dict[str, Any]:
    entry: dict[str, Any] = {"task": name, "schedule": Slots(schedule), "options": {"queue": MAINTENANCE}}
    if schedule.every <= OFTEN:  # only asked for by a file that does not know it yet
        entry["last_run_at"] = datetime.now(UTC) - schedule.every
    return entry


def _own_file(home: Path) -> Path:
    """Where this beat keeps when it last sent what. A second beat on the same home has a file of its own."""
    folder = home / "run"
    try:
        home.mkdir(mode=0o711, parents=True, exist_ok=True)  # the embedded servers' accounts must be able to pass
        folder.mkdir(mode=0o700, exist_ok=True)
        for number in range(1, MOST_BEATS + 1):
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
            f"{error.filename or folder}: {error.strerror}; the beat keeps there what it has sent: set PARLEY_HOME to "
            "a folder that this user may write"
        ) from None
    raise SettingsError(f"{MOST_BEATS} beats run on {home} already")
