"""What can be declared in `ops/catalogue.py`: plain data, cheap to import, so that a beat needs no database.

A declaration names its function as `module:function`; that is imported when it is first called.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, Protocol

from ops.levels import Level

MIDNIGHT = datetime(1970, 1, 1, tzinfo=UTC)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


class Slotted(Protocol):
    """Moments of the calendar, known without a state: so two beats name the same ones. `every` is the longest time
    from one to the next.
    """

    @property
    def every(self) -> timedelta: ...

    def slot(self, moment: datetime) -> datetime:
        """The last slot at or before `moment`."""

    def next_slot(self, moment: datetime) -> datetime:
        """The first slot after `moment`."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A slot every so often, `offset` after a multiple of `every` since midnight UTC of a Thursday, 1970-01-01."""

    every: timedelta
    offset: timedelta = timedelta()

    def slot(self, moment: datetime) -> datetime:
        """The last slot at or before `moment`."""
        since = moment - MIDNIGHT - self.offset
        return MIDNIGHT + self.offset + since // self.every * self.every

    def next_slot(self, moment: datetime) -> datetime:
        """The first slot after `moment`."""
        return self.slot(moment) + self.every

    def __str__(self) -> str:
        """As people say it: `every 30 s`, `every 10 min`, `03:10 UTC` for once a day, `Mondays, 05:00 UTC`."""
        if self.every == DAY:
            return f"{MIDNIGHT + self.offset:%H:%M} UTC"
        if self.every == 7 * DAY:
            moment = MIDNIGHT + self.offset
            return f"{WEEKDAYS[moment.weekday()]}s, {moment:%H:%M} UTC"
        for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
            if self.every % unit == timedelta():
                return f"every {self.every // unit} {name}"
        return f"every {self.every.total_seconds():g} s"


@dataclass(frozen=True, slots=True)
class Monthly:
    """A slot on one day of each month, counted from 1, `offset` after its midnight UTC."""

    day: int
    offset: timedelta = timedelta()

    def __post_init__(self) -> None:
        if not 1 <= self.day <= 28 or not timedelta() <= self.offset < DAY:
            raise ValueError("a day that every month has, 1 to 28, and a time of that day")

    @property
    def every(self) -> timedelta:
        """The longest month."""
        return 31 * DAY

    def slot(self, moment: datetime) -> datetime:
        """The last slot at or before `moment`."""
        own = self._in(moment.year, moment.month)
        return own if own <= moment else self._in(moment.year, moment.month - 1)

    def next_slot(self, moment: datetime) -> datetime:
        """The first slot after `moment`."""
        own = self._in(moment.year, moment.month)
        return own if own > moment else self._in(moment.year, moment.month + 1)

    def __str__(self) -> str:
        return f"day {self.day} of the month, {MIDNIGHT + self.offset:%H:%M} UTC"

    def _in(self, year: int, month: int) -> datetime:
        """The slot of a month; 0 is the December before, 13 the January after."""
        years, month = divmod(month - 1, 12)
        return datetime(year + years, month + 1, self.day, tzinfo=UTC) + self.offset


def daily(hour: int, minute: int = 0) -> Schedule:
    """Once a day, at that time in UTC."""
    return Schedule(DAY, timedelta(hours=hour, minutes=minute))


def weekly(weekday: int, hour: int, minute: int = 0) -> Schedule:
    """Once a week at that time in UTC; 0 is Monday."""
    return Schedule(7 * DAY, timedelta(days=(weekday - MIDNIGHT.weekday()) % 7, hours=hour, minutes=minute))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job. `name` is its name on the wire, `does` one sentence for an operator, and `where` its function.

    That function takes keyword arguments, none of them required if the job has a schedule, and returns a report (a
    dataclass) or None. Beat, command line and admin API all call this one.

    A run that takes longer than `longest` is ended. An `exclusive` job runs at most once at a time, wherever the
    workers are. A job without a schedule is asked for by others, and tried again after a failure: first `retry_after`
    it, then four times as long after each. `deliveries` is how often one message may reach a worker. `keep` bounds its
    history where that is shorter than everybody's.
    """

    name: str
    does: str
    longest: timedelta
    where: str = ""
    schedule: Slotted | None = None
    exclusive: bool = True
    deliveries: int = 3
    retry_after: timedelta = timedelta(seconds=5)
    keep: timedelta | None = None

    def __post_init__(self) -> None:
        if self.schedule is not None and not self.exclusive:
            raise ValueError(f"{self.name} has a schedule, so two beats would run it twice: make it exclusive")

    @property
    def id(self) -> str:
        """Its name where dots cannot be, such as in a file's name."""
        return self.name.replace(".", "-").replace("_", "-")

    @property
    def runbook(self) -> str:
        """The page for whoever has to do with it, from the project's folder."""
        return f"docs/runbooks/{self.id}.md"


@dataclass(frozen=True, slots=True)
class Check:
    """One question about Parley's health. `id` is `group.name`, `asks` the question, `worst` what an answer can be.

    `where` is a function of a `Probe` that yields a `Finding` for each thing that is wrong; see `ops/checks/probe.py`.
    A `thorough` one reads much, so it is asked only when somebody wants it, and by the clock once a day.
    """

    id: str
    asks: str
    worst: Level
    where: str
    thorough: bool = field(default=False, kw_only=True)

    @property
    def group(self) -> str:
        """What it belongs to, such as `indexes`."""
        return self.id.partition(".")[0]

    @property
    def runbook(self) -> str:
        """The page for whoever has to do with it, from the project's folder."""
        return f"docs/runbooks/{self.id.replace('.', '-').replace('_', '-')}.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing that a duty looks at: the answers of `checks` (ids or groups), and the figures that `where`, a function
    of a `Probe`, returns as `ops.duties.parts.Told`. Either may be left out.
    """

    name: str
    checks: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """What somebody should look at every so often, and the beat does. `job` runs it and keeps its report."""

    name: str
    does: str
    job: Job
    parts: tuple[Part, ...]


def load(where: str) -> Callable[..., Any]:
    """The function that a declaration names."""
    module, _, name = where.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
