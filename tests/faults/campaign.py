"""Faults at random moments under a load of people chatting; then PostgreSQL is asked what is left.

What is random is only when; what must be true afterwards is always the same. The seed chooses the faults and what is
said; the moments are the machine's.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from app.jobs import INTERACTIVE, make_celery
from ops.care.turns import close_stale
from ops.catalogue import INDEX_CONVERSATIONS
from tests.factories import Account, make_account
from tests.faults.chatters import Chatter
from tests.faults.killers import FAULTS
from tests.faults.ledger import bring_back, broken_promises, complaints, miscounted_calls, running, turns_by_status
from tests.faults.rig import SECONDS, until
from tests.faults.world import PIECES, STALE_SECONDS, World

PAUSE = (0.0, 0.4)  # seconds
LOG_SHOWN = 5_000  # characters of a log, beside a failure


@dataclass
class Figures:
    """What was done, what was said, and what is wrong."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    messages: int = 0
    acknowledged: int = 0
    requests: Counter[str] = field(default_factory=Counter)  # by how they were answered
    done: Counter[str] = field(default_factory=Counter)
    turns: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    archived: str = ""
    revived: Counter[str] = field(default_factory=Counter)
    runs: dict[str, int] = field(default_factory=dict)
    violations: dict[str, Sequence[Any]] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, str]]:
        """The table to show."""

        def many(counts: Any) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

        return [
            ("seed", str(self.seed)),
            ("faults", f"{self.faults.total()} in {self.seconds:.0f} s"),
            *((f"  {name}", str(count)) for name, count in self.faults.most_common()),
            ("messages", f"{self.messages}, acknowledged {self.acknowledged}"),
            ("requests", f"{self.requests.total()}: {many(self.requests)}"),
            ("beside them", many(self.done)),
            ("turns", f"{sum(self.turns.values())}: {many(self.turns)}"),
            ("provider's calls", str(self.calls)),
            ("archived", self.archived),
            ("runs of jobs", many(self.runs)),
            ("ended by themselves", many(self.revived)),
            ("violations", many({name: len(found) for name, found in self.violations.items()})),
        ]


def plan(kills: int, dice: random.Random) -> list[str]:
    """So many faults by their weights; each of them at least once, if there are enough."""
    names = list(FAULTS)
    chosen = dice.sample(names, min(kills, len(names)))
    chosen += dice.choices(names, [FAULTS[name].weight for name in names], k=kills - len(chosen))
    dice.shuffle(chosen)
    return chosen


def next_fault(left: list[str], last: dict[str, float]) -> str:
    """The first that has rested; where none has, the one that will have first."""

    def wait(name: str) -> float:
        fault = FAULTS[name]
        return max(0.0, last.get(fault.family, float("-inf")) + fault.rest - time.monotonic())

    name = min(left, key=wait)  # the first of equals
    left.remove(name)
    time.sleep(wait(name))
    return name


def campaign(
    world: World, *, seed: int, kills: int, chatters: int = 6, tell: Callable[[str], None] = lambda name: None
) -> Figures:
    """Make `kills` faults in a running world and return what came of it. `tell` hears of each fault before it is made.

    Raises `AssertionError` where the platform does not recover by itself.
    """
    dice, figures, began = random.Random(seed), Figures(seed), time.monotonic()
    stopping = threading.Event()
    people = [Chatter(world.urls, account(world, n), stopping, seed + n) for n in range(chatters)]
    for person in people:
        person.start()
    left, last = plan(kills, dice), dict[str, float]()
    while left:
        await_answers(people)
        time.sleep(dice.uniform(*PAUSE))  # a random moment is the point
        world.revive()
        name = next_fault(left, last)
        tell(name)
        FAULTS[name].make(world, dice)
        last[FAULTS[name].family] = time.monotonic()  # a stop can take its time
        figures.faults[name] += 1
    world.settle()
    stopping.set()
    for person in people:
        person.join(2 * SECONDS)
        assert not person.is_alive(), f"a message was never answered: {person.said[-1]}"
    figures.seconds = time.monotonic() - began
    world.end_archiver()
    _close(world)
    _judge(world, people, figures)
    return figures


def account(world: World, number: int) -> Account:
    """Somebody; every other one has a quota of tokens that is never used up, so that it is counted."""
    quota = 10**9 if number % 2 else None
    return make_account(world.flask_app, world.engine, name=f"user{number}", tokens_per_day=quota)


def await_answers(people: Sequence[Chatter]) -> None:
    """Wait until somebody gets an answer, so that what is hurt next is at work."""
    before = sum(person.answered for person in people)
    until(lambda: sum(person.answered for person in people) > before, "an answer after a fault")


def _close(world: World) -> None:
    """What the clock does: turns that nobody answers any more are closed, by their heartbeat; and jobs run."""

    def nothing_runs() -> bool:
        with world.flask_app.app_context():
            close_stale(stale_seconds=STALE_SECONDS)
        return not running(world.engine)

    until(nothing_runs, "the end of every turn")
    _see_a_job_done(world)


def _see_a_job_done(world: World) -> None:
    """One without a schedule, whose message counts for itself: one of the clock's is skipped where the beat has just
    asked for the same, and dropped where a worker's connection is found dead, because the next one comes soon.
    """
    message, celery_app = str(uuid4()), make_celery(world.broker, set_as_current=False)
    arguments: dict[str, Any] = {"conversations": []}
    celery_app.send_task(INDEX_CONVERSATIONS.name, kwargs=arguments, task_id=message, queue=INTERACTIVE, retry=False)
    celery_app.close()

    def has_run() -> bool:
        world.revive()
        query = text("SELECT FROM job_runs WHERE message_id = :id AND status = 'succeeded'")
        with world.engine.connect() as connection:
            return connection.execute(query, {"id": message}).first() is not None

    try:
        until(has_run, f"the end of job {message}", seconds=3 * SECONDS)
    except AssertionError as error:
        query = text("SELECT job, message_id, status, reason, started_at FROM job_runs ORDER BY id DESC LIMIT 10")
        with world.engine.connect() as connection:
            runs = [str(row) for row in connection.execute(query)]
        raise AssertionError("\n".join([str(error), *runs, world.jobs["worker"].log()[-LOG_SHOWN:]])) from None


def _judge(world: World, people: Sequence[Chatter], figures: Figures) -> None:
    everything = [said for person in people for said in person.said]
    bodies = [seen["body"] for seen in world.seen()]
    figures.messages = len(everything)
    figures.acknowledged = sum(said.answer is not None for said in everything)
    figures.requests = Counter(status or "no answer" for said in everything for status in said.statuses)
    figures.done = sum((person.counts for person in people), Counter[str]())
    figures.done["conversation had moved on"] = sum(said.moved_on for said in everything)
    figures.revived = world.revived
    figures.turns = turns_by_status(world.engine)
    figures.calls = len(bodies)
    with world.engine.connect() as connection:
        runs = connection.execute(text("SELECT status, count(*) AS count FROM job_runs GROUP BY 1"))
        figures.runs = {row.status: row.count for row in runs}
    found: dict[str, Sequence[Any]] = {"unexpected answers": [line for person in people for line in person.unexpected]}
    found |= {f"{name}, some in bundles": rows for name, rows in complaints(world.engine).items()}
    with world.flask_app.app_context():
        figures.archived, damaged = bring_back()
    found |= {
        "damaged bundles": damaged,
        "broken promises": broken_promises(world.engine, everything),
        "miscounted calls": miscounted_calls(world.engine, everything, bodies, PIECES),
        **complaints(world.engine),
    }
    figures.violations = {name: rows for name, rows in found.items() if rows}
