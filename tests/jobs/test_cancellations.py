"""`flask ops jobs cancel` and its request, with a real worker and a real broker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask

from app.enums import JobRunStatus
from tests.jobs.cancelling import REASON, Cancel, cancel, report, run, served
from tests.jobs.processes import CeleryProcess
from tests.jobs.sample_jobs import BLOCK, ECHO, RETRY_LATER, STUBBORN
from tests.waiting import wait_until

__all__ = ["cancel", "served"]  # fixtures

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-cancellation")]

Send = Callable[..., str]
WaitForRuns = Callable[..., list[Any]]


def test_waiting_message_is_not_begun(
    served: Flask,
    cancel: Cancel,
    queue: "redis.Redis[bytes]",
    send: Send,
    wait_for_runs: WaitForRuns,
    request: pytest.FixtureRequest,
) -> None:
    """Must be the first test of this file, because no worker may run yet."""
    queue.flushdb()
    cancelled, kept = send(ECHO, word="cancelled"), send(ECHO, word="kept")
    shown = report(cancel(cancelled, "--json"))
    assert (shown["job"], shown["cancelled_while"], shown["run_id"]) == (ECHO.name, "waiting", None)
    assert "will not begin" in cancel(cancelled).stdout
    request.getfixturevalue("worker")
    [run_] = wait_for_runs(cancelled, "cancelled")
    assert run_.reason.startswith("cancelled by ")
    assert run_.reason.endswith(f": {REASON}")
    assert (run_.report, run_.finished_at is None) == (None, False)
    assert [run.status for run in wait_for_runs(kept)] == ["succeeded"]
    wait_until(lambda: queue.hlen("unacked") == 0)


def test_running_job_ends_and_is_not_retried(
    cancel: Cancel, worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns, marks: Path
) -> None:
    message = send(BLOCK, key="cancelled")
    wait_until((marks / "cancelled.run0").exists)
    [running] = wait_for_runs(message, "running")
    pid = int((marks / "cancelled.run0").read_text())
    shown = report(cancel(running.id, "--json"))
    assert (shown["cancelled_while"], shown["pid"], shown["message_id"]) == ("running", pid, message)
    [ended] = wait_for_runs(message, "cancelled")
    assert ended.reason.endswith(REASON)
    # The process that was asked lives and takes the next job; the message was acknowledged.
    wait_for_runs(send(ECHO, word="next"))
    assert pid in [child.pid for child in worker.children()]
    assert len(wait_for_runs(message, "cancelled")) == 1


def test_process_that_does_not_end_is_killed(
    cancel: Cancel,
    worker: CeleryProcess,
    send: Send,
    wait_for_runs: WaitForRuns,
    marks: Path,
    queue: "redis.Redis[bytes]",
) -> None:
    message = send(STUBBORN, key="stubborn")
    wait_until((marks / "stubborn.run0").exists)
    pid = int((marks / "stubborn.run0").read_text())
    assert report(cancel(message, "--json"))["pid"] == pid
    worker.wait_for_log(f"SIGKILL to process {pid}")
    wait_until(lambda: {run.status for run in wait_for_runs(message, "cancelled")} == {"cancelled"})
    wait_until(lambda: queue.hlen("unacked") == 0)
    assert len(list(marks.glob("stubborn.run*"))) == 1
    assert pid not in [child.pid for child in worker.children()]


def test_waiting_retry_is_cancelled(
    served: Flask, cancel: Cancel, worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns, queue: Any
) -> None:
    message = send(RETRY_LATER)
    [failed] = wait_for_runs(message, "failed")
    wait_until(lambda: cancel(failed.id).exit_code == 0)  # once the retry has been sent
    again = run(served, RETRY_LATER, message)
    assert (again.status, again.error) == (JobRunStatus.CANCELLED, None)
    queue.flushdb()
