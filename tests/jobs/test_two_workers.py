"""Two workers: exclusive jobs, and jobs of a killed worker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from tests.jobs.processes import CeleryProcess
from tests.jobs.sample_jobs import ALONE, BLOCK
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-two-workers")]

Send = Callable[..., str]
WaitForRuns = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def workers(start: Callable[..., CeleryProcess]) -> list[CeleryProcess]:
    """Start two workers with one process each; an unacknowledged message is redelivered after three seconds."""
    started = [start("worker", WORKER_CONCURRENCY="1", JOBS_TEST_VISIBILITY="3") for _ in range(2)]
    return [worker.wait_for_log(" ready.") for worker in started]


def owner_and_other(workers: list[CeleryProcess], pid: int) -> tuple[CeleryProcess, CeleryProcess]:
    """Return the worker whose pool has this process, and the other worker."""
    first, second = workers
    return (first, second) if pid in [child.pid for child in first.children()] else (second, first)


def test_second_run_of_an_exclusive_job_is_skipped(
    workers: list[CeleryProcess], send: Send, wait_for_runs: WaitForRuns, marks: Path
) -> None:
    first, second = send(ALONE, key="alone"), send(ALONE, key="alone")
    wait_until((marks / "alone.run0").exists)
    skipped = wait_until(
        lambda: [
            run
            for message in (first, second)
            for run in wait_for_runs(message, "running", "skipped")
            if run.status == "skipped"
        ]
    )
    assert [run.reason for run in skipped] == ["another run of it is in progress"]
    (marks / "alone.go").touch()
    statuses = sorted(wait_for_runs(message, "succeeded", "skipped")[-1].status for message in (first, second))
    assert statuses == ["skipped", "succeeded"]
    assert len(list(marks.glob("alone.run*"))) == 1


def test_killed_worker_leaves_no_process_and_the_other_runs_its_job_once(
    workers: list[CeleryProcess], send: Send, wait_for_runs: WaitForRuns, marks: Path, queue: "redis.Redis[bytes]"
) -> None:
    message = send(BLOCK, key="main")
    wait_until((marks / "main.run0").exists)
    victim, survivor = owner_and_other(workers, int((marks / "main.run0").read_text()))
    orphans = victim.children()
    assert orphans
    victim.kill()
    assert not psutil.wait_procs(orphans, 60)[1]
    rows = wait_for_runs(message)
    assert [(run.attempt, run.status) for run in rows] == [(1, "lost"), (2, "succeeded")]
    assert int(rows[1].worker.rpartition(":")[2]) in [child.pid for child in survivor.children()]
    assert len(list(marks.glob("main.run*"))) == 2
    wait_until(lambda: queue.hlen("unacked") == 0)
