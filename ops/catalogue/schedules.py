"""Schedules of jobs: slots that follow from the calendar alone, so that two beats compute the same ones."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # a Thursday
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


class JobSchedule(Protocol):
    """The slots at which a job is due. `interval` is the longest time between two of them."""

    @property
    def interval(self) -> timedelta: ...

    def slot(self, moment: datetime) -> datetime:
        """Return the last slot at or before `moment`."""

    def next_slot(self, moment: datetime) -> datetime:
        """Return the first slot after `moment`."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A slot every `interval`, counted from 1970-01-01 00:00 UTC, plus `offset`."""

    interval: timedelta
    offset: timedelta = timedelta()

    def slot(self, moment: datetime) -> datetime:
        """Return the last slot at or before `moment`."""
        elapsed = moment - EPOCH - self.offset
        return EPOCH + self.offset + elapsed // self.interval * self.interval

    def next_slot(self, moment: datetime) -> datetime:
        """Return the first slot after `moment`."""
        return self.slot(moment) + self.interval

    def __str__(self) -> str:
        """Format it as `every 30 s`, `every 10 min`, `03:10 UTC` (daily) or `Mondays, 05:00 UTC` (weekly)."""
        if self.interval == DAY:
            return f"{EPOCH + self.offset:%H:%M} UTC"
        if self.interval == 7 * DAY:
            moment = EPOCH + self.offset
            return f"{WEEKDAYS[moment.weekday()]}s, {moment:%H:%M} UTC"
        for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
            if self.interval % unit == timedelta():
                return f"every {self.interval // unit} {name}"
        return f"every {self.interval.total_seconds():g} s"


@dataclass(frozen=True, slots=True)
class Monthly:
    """A slot on one day of each month, 1 to 28, `offset` after its midnight UTC."""

    day: int
    offset: timedelta = timedelta()

    def __post_init__(self) -> None:
        if not 1 <= self.day <= 28 or not timedelta() <= self.offset < DAY:
            raise ValueError("a monthly schedule needs a day from 1 to 28 and an offset of less than a day")

    @property
    def interval(self) -> timedelta:
        """The longest month."""
        return 31 * DAY

    def slot(self, moment: datetime) -> datetime:
        """Return the last slot at or before `moment`."""
        candidate = self._in(moment.year, moment.month)
        return candidate if candidate <= moment else self._in(moment.year, moment.month - 1)

    def next_slot(self, moment: datetime) -> datetime:
        """Return the first slot after `moment`."""
        candidate = self._in(moment.year, moment.month)
        return candidate if candidate > moment else self._in(moment.year, moment.month + 1)

    def __str__(self) -> str:
        return f"day {self.day} of the month, {EPOCH + self.offset:%H:%M} UTC"

    def _in(self, year: int, month: int) -> datetime:
        """Return the slot of a month; month 0 is December of the previous year, 13 January of the next."""
        years, month = divmod(month - 1, 12)
        return datetime(year + years, month + 1, self.day, tzinfo=UTC) + self.offset


def daily(hour: int, minute: int = 0) -> Schedule:
    """Return a schedule with one slot a day, at that time in UTC."""
    return Schedule(DAY, timedelta(hours=hour, minutes=minute))


def weekly(weekday: int, hour: int, minute: int = 0) -> Schedule:
    """Return a schedule with one slot a week, at that time in UTC; weekday 0 is Monday."""
    return Schedule(7 * DAY, timedelta(days=(weekday - EPOCH.weekday()) % 7, hours=hour, minutes=minute))
