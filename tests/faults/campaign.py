"""A campaign: faults at random moments under load, followed by integrity checks of the database.

The seed chooses the faults and the messages. The moments also depend on the machine; the checks are always the same.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from app.jobs import INTERACTIVE, make_celery
from ops.catalogue.jobs import INDEX_CONVERSATIONS
from ops.maintenance.turns import close_stale_turns
from tests.factories import LoggedInUser, insert_user
from tests.faults.injectors import FAULTS
from tests.faults.ledger import (
    acknowledgement_errors,
    call_count_errors,
    inconsistencies,
    restore_all,
    running_turns,
    turns_by_status,
)
from tests.faults.live_server import MAX_WAIT_SECONDS
from tests.faults.load import ChatClient
from tests.faults.testbed import ANSWER_PIECES, STALE_SECONDS, Testbed
from tests.waiting import wait_until

PAUSE = (0.0, 0.4)  # seconds
LOG_TAIL = 5_000  # characters of a log that a failure shows


@dataclass
class CampaignReport:
    """The faults injected, the requests and their results, and the violations found."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    messages: int = 0
    acknowledged: int = 0
    requests: Counter[str] = field(default_factory=Counter)  # by status
    special_cases: Counter[str] = field(default_factory=Counter)
    turns: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    archived: str = ""
    restarted: Counter[str] = field(default_factory=Counter)
    runs: dict[str, int] = field(default_factory=dict)
    violations: dict[str, Sequence[Any]] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, str]]:
        """Return the report as rows of a table with two columns."""

        def listed(counts: Mapping[str, int]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

        return [
            ("seed", str(self.seed)),
            ("faults", f"{self.faults.total()} in {self.seconds:.0f} s"),
            *((f"  {name}", str(count)) for name, count in self.faults.most_common()),
            ("messages", f"{self.messages}, acknowledged {self.acknowledged}"),
            ("requests", f"{self.requests.total()}: {listed(self.requests)}"),
            ("special cases", listed(self.special_cases)),
            ("turns", f"{sum(self.turns.values())}: {listed(self.turns)}"),
            ("provider calls", str(self.calls)),
            ("archived", self.archived),
            ("job runs", listed(self.runs)),
            ("ended by themselves", listed(self.restarted)),
            ("violations", listed({name: len(rows) for name, rows in self.violations.items()})),
        ]


def plan_faults(count: int, rng: random.Random) -> list[str]:
    """Return the names of `count` faults in random order, by their weights; each at least once if `count` allows."""
    names = list(FAULTS)
    chosen = rng.sample(names, min(count, len(names)))
    chosen += rng.choices(names, [FAULTS[name].weight for name in names], k=count - len(chosen))
    rng.shuffle(chosen)
    return chosen


def next_fault(remaining: list[str], last: dict[str, float]) -> str:
    """Remove and return the first fault whose cooldown is over; wait for the shortest one if none is."""

    def wait(name: str) -> float:
        fault = FAULTS[name]
        return max(0.0, last.get(fault.group, float("-inf")) + fault.cooldown - time.monotonic())

    name = min(remaining, key=wait)  # the first of equals
    remaining.remove(name)
    time.sleep(wait(name))
    return name


def run_campaign(
    testbed: Testbed, *, seed: int, kills: int, clients: int = 6, on_fault: Callable[[str], None] = lambda name: None
) -> CampaignReport:
    """Inject `kills` faults into a running testbed and return the report. `on_fault` is called before each fault.

    Raises AssertionError if the platform does not recover by itself.
    """
    rng, report, began = random.Random(seed), CampaignReport(seed), time.monotonic()
    stopping = threading.Event()
    chat_clients = [ChatClient(testbed.urls, make_client(testbed, n), stopping, seed + n) for n in range(clients)]
    for client in chat_clients:
        client.start()
    remaining, last = plan_faults(kills, rng), dict[str, float]()
    while remaining:
        await_answers(chat_clients)
        time.sleep(rng.uniform(*PAUSE))  # the moment must be random
        testbed.restart_ended_jobs()
        name = next_fault(remaining, last)
        on_fault(name)
        FAULTS[name].inject(testbed, rng)
        last[FAULTS[name].group] = time.monotonic()  # a stop can take its time
        report.faults[name] += 1
    testbed.recover()
    stopping.set()
    for client in chat_clients:
        client.join(2 * MAX_WAIT_SECONDS)
        assert not client.is_alive(), f"a message was never answered: {client.sent[-1]}"
    report.seconds = time.monotonic() - began
    testbed.kill_archiver()
    _close_stale_turns(testbed)
    _await_job(testbed)
    _fill_in(report, testbed, chat_clients)
    return report


def make_client(testbed: Testbed, number: int) -> LoggedInUser:
    """Create a user; odd numbers get a quota that is never used up, so that their tokens are counted."""
    quota = 10**9 if number % 2 else None
    return insert_user(testbed.flask_app, testbed.engine, name=f"user{number}", tokens_per_day=quota)


def await_answers(clients: Sequence[ChatClient]) -> None:
    """Wait until any client gets an answer, so that the next fault meets a working platform."""
    before = sum(client.answered for client in clients)
    wait_until(lambda: sum(client.answered for client in clients) > before, "no answer after a fault")


def _close_stale_turns(testbed: Testbed) -> None:
    """Close turns without heartbeat, as the scheduled job does, until no turn is running."""

    def none_running() -> bool:
        with testbed.flask_app.app_context():
            close_stale_turns(stale_seconds=STALE_SECONDS)
        return not running_turns(testbed.engine)

    wait_until(none_running, "a turn is still running")


def _await_job(testbed: Testbed) -> None:
    """Enqueue a job and wait until it has succeeded.

    It is one without a schedule. A scheduled one is skipped where beat has just enqueued the same, and dropped where
    the worker's connection turns out to be broken, because beat enqueues the next one soon.
    """
    message, celery_app = str(uuid4()), make_celery(testbed.broker, set_as_current=False)
    arguments: dict[str, Any] = {"conversations": []}
    celery_app.send_task(INDEX_CONVERSATIONS.name, kwargs=arguments, task_id=message, queue=INTERACTIVE, retry=False)
    celery_app.close()

    def has_succeeded() -> bool:
        testbed.restart_ended_jobs()
        query = text("SELECT FROM job_runs WHERE message_id = :id AND status = 'succeeded'")
        with testbed.engine.connect() as connection:
            return connection.execute(query, {"id": message}).first() is not None

    def failure() -> str:
        query = text("SELECT job, message_id, status, reason, started_at FROM job_runs ORDER BY id DESC LIMIT 10")
        with testbed.engine.connect() as connection:
            runs = [str(row) for row in connection.execute(query)]
        log = testbed.jobs["worker"].log()[-LOG_TAIL:]
        return "\n".join([f"job {message} has not succeeded", *runs, log])

    wait_until(has_succeeded, failure, timeout=3 * MAX_WAIT_SECONDS)


def _fill_in(report: CampaignReport, testbed: Testbed, clients: Sequence[ChatClient]) -> None:
    messages = [message for client in clients for message in client.sent]
    bodies = [request["body"] for request in testbed.provider_requests()]
    report.messages = len(messages)
    report.acknowledged = sum(message.answer is not None for message in messages)
    report.requests = Counter(status or "no response" for message in messages for status in message.statuses)
    report.special_cases = sum((client.counts for client in clients), Counter[str]())
    report.special_cases["superseded"] = sum(message.superseded for message in messages)
    report.restarted = testbed.restarted
    report.turns = turns_by_status(testbed.engine)
    report.calls = len(bodies)
    with testbed.engine.connect() as connection:
        runs = connection.execute(text("SELECT status, count(*) AS runs FROM job_runs GROUP BY 1"))
        report.runs = {row.status: row.runs for row in runs}
    violations: dict[str, Sequence[Any]] = {
        "unexpected responses": [line for client in clients for line in client.errors]
    }
    violations |= {f"{name}, before restoring": rows for name, rows in inconsistencies(testbed.engine).items()}
    with testbed.flask_app.app_context():
        report.archived, unreadable = restore_all()
    violations |= {
        "unreadable bundles": unreadable,
        "acknowledgements": acknowledgement_errors(testbed.engine, messages),
        "provider calls": call_count_errors(testbed.engine, messages, bodies, ANSWER_PIECES),
        **inconsistencies(testbed.engine),
    }
    report.violations = {name: rows for name, rows in violations.items() if rows}
