"""One worker: successful, failing, killed and slow jobs, and invalid messages."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from app.jobs import INTERACTIVE
from tests.jobs.processes import CeleryProcess
from tests.jobs.sample_jobs import BLOCK, CHAIN, ECHO, FAIL, POISON, SLOW
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-worker")]

Send = Callable[..., str]
WaitForRuns = Callable[..., list[Any]]


def problems_logged(worker: CeleryProcess) -> int:
    """Count the log entries of level WARNING and above."""
    log = worker.log()
    return sum(log.count(f'"{level}"') for level in ("WARNING", "ERROR", "CRITICAL"))


def test_job_runs_and_is_recorded(worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns) -> None:
    headers = {"request_id": "request-1", "queued_at": "2026-01-02T03:04:05+00:00"}
    [run] = wait_for_runs(send(ECHO, headers, word="hello"))
    assert (run.job, run.attempt, run.status, run.slot, run.reason) == (ECHO.name, 1, "succeeded", None, None)
    assert run.report["word"] == "hello"
    assert run.report["request_id"] == run.request_id == "request-1"
    assert run.arguments == {"word": "hello"}
    assert run.queued_at.isoformat() == headers["queued_at"]
    assert run.started_at <= run.finished_at
    assert run.worker.endswith(f":{run.report['pid']}")
    assert run.report["pid"] in [child.pid for child in worker.children()]
    worker.wait_for_log(str(run.id))


def test_worker_logs_the_trace_of_the_request(worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"request_id": "request-4", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    [run] = wait_for_runs(send(ECHO, headers, word="traced"))
    worker.wait_for_log(str(run.id))
    [line] = [json.loads(line) for line in worker.log().splitlines() if str(run.id) in line]
    assert (line["request_id"], line["trace_id"]) == ("request-4", trace)


def test_message_with_invalid_headers_is_run(worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns) -> None:
    invalid = {"request_id": "not\x00 plain", "queued_at": "yesterday", "slot": "2026-01-02T03:04:05"}
    [run] = wait_for_runs(send(ECHO, invalid, word="a\x00b"))
    assert len(run.report["request_id"]) == 32
    assert (run.queued_at, run.slot, run.arguments["word"]) == (None, None, "a\ufffdb")


def test_failing_job_is_retried_up_to_its_limit(worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns) -> None:
    message = send(FAIL, {"request_id": "request-2"}, key="fail", password="hunter2")
    wait_until(lambda: [run for run in wait_for_runs(message, "failed") if run.attempt == 3])
    rows = wait_for_runs(message, "failed")
    assert [(run.attempt, run.status) for run in rows] == [(1, "failed"), (2, "failed"), (3, "failed")]
    assert {run.request_id for run in rows} == {"request-2"}
    assert rows[-1].reason == "RuntimeError: it cannot be done with password=[redacted]"
    assert "hunter2" not in worker.log()
    assert "Traceback" in worker.log()


def test_killed_pool_process_is_replaced_and_its_job_redelivered(
    worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns, marks: Path
) -> None:
    message = send(BLOCK, key="child")
    wait_until((marks / "child.run0").exists)
    os.kill(int((marks / "child.run0").read_text()), signal.SIGKILL)
    rows = wait_for_runs(message)
    assert [(run.attempt, run.status) for run in rows] == [(1, "lost"), (2, "succeeded")]
    assert "ended before" in rows[0].reason
    assert rows[0].finished_at is not None
    assert rows[1].report == {"before": 1}
    assert len(list(marks.glob("child.run*"))) == 2


def test_message_that_kills_its_process_ends_as_a_failed_run(
    worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns, marks: Path
) -> None:
    message = send(POISON, key="poison")
    rows = wait_for_runs(message, "failed")
    assert [(run.attempt, run.status) for run in rows] == [(1, "lost"), (2, "lost"), (3, "failed")]
    assert "as often as it was tried" in rows[-1].reason
    worker.wait_for_log(message)  # the log names the message that was given up
    assert len(list(marks.glob("poison.run*"))) == 3
    wait_for_runs(send(ECHO, word="still running"))


def test_job_over_its_time_limit_is_ended(worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns) -> None:
    [run] = wait_for_runs(send(SLOW), "failed")
    assert run.reason == "The job exceeded its time limit and was ended."


def test_job_enqueues_another(
    worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns, runs: Callable[..., list[Any]]
) -> None:
    [run] = wait_for_runs(send(CHAIN, {"request_id": "request-3"}, word="passed on"))
    assert run.status == "succeeded"
    wait_until(lambda: [other for other in runs(job=ECHO) if other.request_id == "request-3"])


@pytest.mark.parametrize(
    "garbage",
    [
        b"{",
        b"\xff\xfe",
        b"[]",
        b'"text"',
        b"{}",
        b'{"properties": {"delivery_tag": "1"}}',
        b'{"properties": {"delivery_tag": "2"}, "headers": {"task": "sample.echo"}, "body": "e30="}',
        b'{"properties": {"delivery_tag": "3", "body_encoding": "base64"}, "body": "gASVAAA=",'
        b' "headers": {"task": "sample.echo", "id": "4"}, "content-type": "application/x-python-serialize",'
        b' "content-encoding": "binary"}',
    ],
)
def test_invalid_message_is_dropped_and_logged(
    worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns, queue: "redis.Redis[bytes]", garbage: bytes
) -> None:
    before = problems_logged(worker)
    queue.lpush(INTERACTIVE, garbage)
    [run] = wait_for_runs(send(ECHO, word="next"))
    assert run.status == "succeeded"
    assert worker.process.poll() is None
    assert "Connection to broker lost" not in worker.log()
    assert problems_logged(worker) > before
    wait_until(lambda: queue.hlen("unacked") == 0)


def test_unknown_job_is_dropped_and_logged(
    worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns, queue: "redis.Redis[bytes]"
) -> None:
    send("sample.unknown")
    wait_for_runs(send(ECHO, word="next"))
    worker.wait_for_log("sample.unknown")
    wait_until(lambda: queue.hlen("unacked") == 0)


def test_invalid_arguments_are_a_failed_run(worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns) -> None:
    rows = wait_for_runs(send(ECHO, wrong="yes"), "failed")
    assert "unexpected keyword argument 'wrong'" in rows[0].reason


def test_every_log_line_is_json(worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns) -> None:
    wait_for_runs(send(ECHO, word="one more"))
    assert [line for line in worker.log().splitlines() if not line.startswith('{"time": ')] == []


def test_stop_waits_for_the_running_job(
    start: Callable[..., CeleryProcess], worker: CeleryProcess, send: Send, wait_for_runs: WaitForRuns, marks: Path
) -> None:
    """Must be the last test of this file, because it stops the worker."""
    message = send(BLOCK, key="stop")
    wait_until((marks / "stop.run0").exists)
    children = worker.children()
    os.killpg(worker.process.pid, signal.SIGTERM)
    worker.wait_for_log("Warm shutdown")
    (marks / "stop.go").touch()
    assert worker.process.wait(60) == 0
    assert [run.status for run in wait_for_runs(message)] == ["succeeded"]
    assert not psutil.wait_procs(children, 60)[1]
