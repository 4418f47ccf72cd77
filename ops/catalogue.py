"""The catalogue of what keeps Parley healthy. A job is declared here, once; the beat, the worker, the command line and
the documentation take it from here, and the function it calls is named in `tasks/`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MIDNIGHT = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A slot every so often, `offset` after a multiple of `every` since midnight UTC: known without a state, so that
    two beats name the same moments.
    """

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
        """As people say it: `every 30 s`, or `03:10 UTC` for once a day."""
        if self.every == timedelta(days=1):
            return f"{MIDNIGHT + self.offset:%H:%M} UTC"
        return f"every {self.every.total_seconds():g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job. `name` is its name on the wire and `does` one sentence for an operator.

    A run that takes longer than `longest` is ended. An `exclusive` job runs at most once at a time, wherever the
    workers are. A job without a schedule is asked for by others, and tried again after a failure: first `retry_after`
    it, then four times as long after each. `deliveries` is how often one message may reach a worker. `keep` bounds its
    history where that is shorter than everybody's.
    """

    name: str
    does: str
    longest: timedelta
    schedule: Schedule | None = None
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


BEAT_TICK = Job(
    name="beat.tick",
    does="Shows that beat, broker and a worker work together, and closes runs whose worker has gone.",
    longest=timedelta(seconds=20),
    schedule=Schedule(timedelta(seconds=30)),
    keep=timedelta(days=7),
)
CLOSE_STALE_TURNS = Job(
    name="turns.close_stale",
    does="Closes turns as interrupted whose worker has gone silent, so that their conversations can go on.",
    longest=timedelta(seconds=60),
    schedule=Schedule(timedelta(seconds=30), timedelta(seconds=15)),
    keep=timedelta(days=7),
)
PURGE_SESSIONS = Job(
    name="sessions.purge_expired",
    does="Deletes sessions that ended more than SESSIONS_KEEP_DAYS ago.",
    longest=timedelta(minutes=10),
    schedule=Schedule(timedelta(days=1), timedelta(hours=3, minutes=10)),
)
PURGE_IDEMPOTENCY_KEYS = Job(
    name="idempotency_keys.purge_expired",
    does="Frees idempotency keys that are more than a day old, so that they can be used anew.",
    longest=timedelta(minutes=10),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=20)),
)
PURGE_TURN_EVENTS = Job(
    name="turn_events.purge",
    does="Deletes what streams said more than TURN_EVENTS_KEEP_HOURS ago; messages stay.",
    longest=timedelta(minutes=10),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=40)),
)
PURGE_JOB_RUNS = Job(
    name="job_runs.purge",
    does="Deletes the history of jobs that is older than JOB_RUNS_KEEP_DAYS.",
    longest=timedelta(minutes=10),
    schedule=Schedule(timedelta(days=1), timedelta(hours=3, minutes=40)),
)
INDEX_CONVERSATIONS = Job(
    name="search.index_conversations",
    does="Writes what conversations are found by, after a turn in them or a new title.",
    longest=timedelta(minutes=5),
    exclusive=False,
    keep=timedelta(days=1),
)
SWEEP_SEARCH = Job(
    name="search.sweep",
    does="Finds conversations whose search document is missing or behind, and writes it.",
    longest=timedelta(minutes=5),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=50)),
)

JOBS: tuple[Job, ...] = (
    BEAT_TICK,
    CLOSE_STALE_TURNS,
    PURGE_SESSIONS,
    PURGE_IDEMPOTENCY_KEYS,
    PURGE_TURN_EVENTS,
    PURGE_JOB_RUNS,
    INDEX_CONVERSATIONS,
    SWEEP_SEARCH,
)
