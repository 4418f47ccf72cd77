"""One worker: what it does with a message, whatever the message, the job or its process does."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from app.jobs import INTERACTIVE
from tests.jobs.processes import CeleryProcess, eventually
from tests.jobs.sample_jobs import BLOCK, CHAIN, ECHO, FAIL, POISON, SLOW

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-worker")]

Send = Callable[..., str]
Ended = Callable[..., list[Any]]


def test_a_job_runs_and_leaves_its_row(worker: CeleryProcess, send: Send, ended: Ended) -> None:
    headers = {"request_id": "asked-by-me", "queued_at": "2026-01-02T03:04:05+00:00"}
    [run] = ended(send(ECHO, headers, word="hello"))
    assert (run.job, run.attempt, run.status, run.slot, run.reason) == (ECHO.name, 1, "succeeded", None, None)
    assert run.report["word"] == "hello"
    assert run.report["request_id"] == run.request_id == "asked-by-me"
    assert run.arguments == {"word": "hello"}
    assert run.queued_at.isoformat() == headers["queued_at"]
    assert run.started_at <= run.finished_at
    assert run.worker.endswith(f":{run.report['pid']}")
    assert run.report["pid"] in [child.pid for child in worker.children()]
    worker.says(str(run.id))


def test_a_message_that_says_nothing_of_itself_runs_too(worker: CeleryProcess, send: Send, ended: Ended) -> None:
    odd = {"request_id": "no\x00 plain one", "queued_at": "yesterday", "slot": "2026-01-02T03:04:05"}
    [run] = ended(send(ECHO, odd, word="a\x00b"))
    assert len(run.report["request_id"]) == 32
    assert (run.queued_at, run.slot, run.arguments["word"]) == (None, None, "a\ufffdb")


def test_a_failing_job_is_tried_again_and_not_for_ever(worker: CeleryProcess, send: Send, ended: Ended) -> None:
    message = send(FAIL, {"request_id": "who-asked"}, key="fail", password="hunter2")
    found = eventually(lambda: [run for run in ended(message, "failed") if run.attempt == 3])
    assert found
    rows = ended(message, "failed")
    assert [(run.attempt, run.status) for run in rows] == [(1, "failed"), (2, "failed"), (3, "failed")]
    assert {run.request_id for run in rows} == {"who-asked"}
    assert rows[-1].reason == "RuntimeError: it cannot be done with password=[redacted]"
    assert "hunter2" not in worker.log()
    assert "Traceback" in worker.log()


def test_a_killed_pool_process_is_replaced_and_its_job_delivered_again(
    worker: CeleryProcess, send: Send, ended: Ended, marks: Path
) -> None:
    message = send(BLOCK, key="child")
    eventually((marks / "child.run0").exists)
    os.kill(int((marks / "child.run0").read_text()), signal.SIGKILL)
    rows = ended(message)
    assert [(run.attempt, run.status) for run in rows] == [(1, "lost"), (2, "succeeded")]
    assert "ended before" in rows[0].reason
    assert rows[0].finished_at is not None
    assert rows[1].report == {"before": 1}
    assert len(list(marks.glob("child.run*"))) == 2


def test_a_message_that_kills_whoever_takes_it_ends_as_a_failed_run(
    worker: CeleryProcess, send: Send, ended: Ended, marks: Path
) -> None:
    message = send(POISON, key="poison")
    rows = ended(message, "failed")
    assert [(run.attempt, run.status) for run in rows] == [(1, "lost"), (2, "lost"), (3, "failed")]
    assert "as often as it was tried" in rows[-1].reason
    worker.says(message)  # a line of the log names the message that was given up
    assert len(list(marks.glob("poison.run*"))) == 3
    ended(send(ECHO, word="still there"))


def test_a_job_that_takes_too_long_is_ended(worker: CeleryProcess, send: Send, ended: Ended) -> None:
    [run] = ended(send(SLOW), "failed")
    assert run.reason == "It took longer than it may and was ended."


def test_a_job_may_ask_for_another(worker: CeleryProcess, send: Send, ended: Ended, runs: Ended) -> None:
    [run] = ended(send(CHAIN, {"request_id": "the-first"}, word="passed on"))
    assert run.status == "succeeded"
    eventually(lambda: [other for other in runs(job=ECHO) if other.request_id == "the-first"])


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
def test_what_makes_no_sense_is_dropped_with_a_line(
    worker: CeleryProcess, send: Send, ended: Ended, queue: "redis.Redis[bytes]", garbage: bytes
) -> None:
    told = worker.log().count('"ERROR"') + worker.log().count('"WARNING"') + worker.log().count('"CRITICAL"')
    queue.lpush(INTERACTIVE, garbage)
    [run] = ended(send(ECHO, word="next"))
    assert run.status == "succeeded"
    assert worker.process.poll() is None
    assert "Connection to broker lost" not in worker.log()
    now = worker.log().count('"ERROR"') + worker.log().count('"WARNING"') + worker.log().count('"CRITICAL"')
    assert now > told
    eventually(lambda: queue.hlen("unacked") == 0)


def test_an_unknown_job_is_dropped_with_a_line(
    worker: CeleryProcess, send: Send, ended: Ended, queue: "redis.Redis[bytes]"
) -> None:
    send("sample.nobody_has_heard_of")
    ended(send(ECHO, word="next"))
    worker.says("sample.nobody_has_heard_of")
    eventually(lambda: queue.hlen("unacked") == 0)


def test_wrong_arguments_are_a_failed_run(worker: CeleryProcess, send: Send, ended: Ended) -> None:
    rows = ended(send(ECHO, wrong="yes"), "failed")
    assert "unexpected keyword argument 'wrong'" in rows[0].reason


def test_every_line_of_the_log_is_one_of_ours(worker: CeleryProcess, send: Send, ended: Ended) -> None:
    ended(send(ECHO, word="one more"))
    assert [line for line in worker.log().splitlines() if not line.startswith('{"time": ')] == []


def test_a_stop_lets_the_job_under_way_end(
    start: Callable[..., CeleryProcess], worker: CeleryProcess, send: Send, ended: Ended, marks: Path
) -> None:
    """Last of its file: it stops the worker, by a signal to the whole group."""
    message = send(BLOCK, key="stop")
    eventually((marks / "stop.run0").exists)
    children = worker.children()
    os.killpg(worker.process.pid, signal.SIGTERM)
    worker.says("Warm shutdown")
    (marks / "stop.go").touch()
    assert worker.process.wait(60) == 0
    assert [run.status for run in ended(message)] == ["succeeded"]
    assert not psutil.wait_procs(children, 60)[1]
