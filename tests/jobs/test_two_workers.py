"""Two workers: what one does when the other is there, and when it is killed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from tests.jobs.processes import CeleryProcess, eventually
from tests.jobs.sample_jobs import ALONE, BLOCK

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-two-workers")]

Send = Callable[..., str]
Ended = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def workers(start: Callable[..., CeleryProcess]) -> list[CeleryProcess]:
    """Two, each with one process; what the one does not acknowledge within three seconds, the other gets."""
    both = [start("worker", WORKER_CONCURRENCY="1", JOBS_TEST_VISIBILITY="3") for _ in range(2)]
    return [worker.says(" ready.") for worker in both]


def whose(workers: list[CeleryProcess], pid: int) -> tuple[CeleryProcess, CeleryProcess]:
    """The worker whose process that is, and the other one."""
    first, second = workers
    return (first, second) if pid in [child.pid for child in first.children()] else (second, first)


def test_the_second_run_of_an_exclusive_job_is_skipped(
    workers: list[CeleryProcess], send: Send, ended: Ended, marks: Path
) -> None:
    first, second = send(ALONE, key="alone"), send(ALONE, key="alone")
    eventually((marks / "alone.run0").exists)
    skipped = eventually(
        lambda: [
            run
            for message in (first, second)
            for run in ended(message, "running", "skipped")
            if run.status == "skipped"
        ]
    )
    assert [run.reason for run in skipped] == ["another run of it holds its lock"]
    (marks / "alone.go").touch()
    statuses = sorted(ended(message, "succeeded", "skipped")[-1].status for message in (first, second))
    assert statuses == ["skipped", "succeeded"]
    assert len(list(marks.glob("alone.run*"))) == 1


def test_a_killed_worker_leaves_no_processes_and_the_other_one_does_its_job_once(
    workers: list[CeleryProcess], send: Send, ended: Ended, marks: Path, queue: "redis.Redis[bytes]"
) -> None:
    message = send(BLOCK, key="main")
    eventually((marks / "main.run0").exists)
    victim, survivor = whose(workers, int((marks / "main.run0").read_text()))
    orphans = victim.children()
    assert orphans
    victim.kill()
    assert not psutil.wait_procs(orphans, 60)[1]
    rows = ended(message)
    assert [(run.attempt, run.status) for run in rows] == [(1, "lost"), (2, "succeeded")]
    assert int(rows[1].worker.rpartition(":")[2]) in [child.pid for child in survivor.children()]
    assert len(list(marks.glob("main.run*"))) == 2
    eventually(lambda: queue.hlen("unacked") == 0)
