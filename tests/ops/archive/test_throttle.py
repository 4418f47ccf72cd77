"""Throttling of the archival, with real waiting requests, locks and slow statements."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, text

from app.config import Settings
from app.metrics.pool_waiters import requests_waiting
from ops.archive import throttle as module
from ops.archive.latency import SampleReads, StatementTimes, choose_latency_source
from ops.archive.throttle import (
    MAINTENANCE_PAUSE,
    MAX_MESSAGES,
    MAX_WAIT,
    MIN_MESSAGES,
    PAUSE_FACTOR,
    SAMPLE_INTERVAL,
    Throttle,
)
from tests.bundling import archive_all, make_idle, numbered_messages, storage_state
from tests.factories import LoggedInUser
from tests.ops.archive.conftest import Execute, FixedLatency
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[3]

# A process with one connection that publishes a request waiting for it.
WAITER = """
import sys, threading
from pathlib import Path
from app.metrics.multiprocess import share
share(Path(sys.argv[1]))
from sqlalchemy import create_engine
from app.pool import MeasuredPool
engine = create_engine(sys.argv[2], poolclass=MeasuredPool, pool_size=1, max_overflow=0, pool_timeout=60)
held = engine.connect()
threading.Thread(target=engine.connect, daemon=True).start()
print("waiting", flush=True)
sys.stdin.readline()
held.close()
print("free", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def watching(engine: Engine) -> Iterator[Connection]:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def throttle(watching: Connection, tmp_path: Path, slept: list[float]) -> Throttle:
    """Return a throttle with a fake sleep, and a clock that advances ten seconds at each reading."""
    clock = itertools.count(0.0, 10.0)
    return Throttle(
        watching, home=tmp_path, slow_ms=50, pace=1000, sleep=slept.append, clock=clock.__next__, latency=FixedLatency()
    )


def test_pause_without_load_is_twice_the_batch_time(throttle: Throttle, slept: list[float]) -> None:
    assert throttle.pause(0.15) == 0.0
    assert slept == [0.15 * PAUSE_FACTOR]
    assert throttle.reason is None


def test_batches_adapt_to_their_duration(throttle: Throttle) -> None:
    sizes = []
    for took in [0.01] * 10 + [0.15] + [1.0] * 10:
        throttle.pause(took)
        sizes.append(throttle.messages)
    assert sizes[0] == 1_000
    assert sizes[9] == sizes[10] == MAX_MESSAGES
    assert sizes[11] == MAX_MESSAGES // 2
    assert sizes[-1] == MIN_MESSAGES


def test_pace_is_limited_beside_chats(throttle: Throttle, slept: list[float]) -> None:
    throttle._latency.chats_idle = False
    for _ in range(10):
        messages = throttle.messages
        throttle.pause(0.01)
        assert slept[-1] == pytest.approx(messages / 1000 - 0.01)
    assert throttle.messages == 200, "the messages of 0.2 seconds at this pace"
    slept.clear()
    throttle.pause(0.15)
    assert slept == [0.15 * PAUSE_FACTOR], "the batch was slower than the pace"
    throttle._latency.chats_idle = True
    throttle.pause(0.01)
    assert slept[-1] == 0.01 * PAUSE_FACTOR
    assert throttle.messages == 400


def test_slow_chats_are_waited_for_up_to_the_limit(throttle: Throttle, slept: list[float]) -> None:
    latency = throttle._latency
    assert isinstance(latency, FixedLatency)
    latency.milliseconds = 49.9
    assert throttle.pause(0.1) == 0.0
    latency.milliseconds = 200.0
    slept.clear()
    assert throttle.pause(0.1) == MAX_WAIT
    assert slept == [SAMPLE_INTERVAL] * int(MAX_WAIT / SAMPLE_INTERVAL)
    assert throttle.messages == MIN_MESSAGES
    assert throttle.reason == "the slowest chats' statements take 200 ms, and 50 is the limit"
    latency.milliseconds = None
    assert throttle.pause(0.1) == 0.0
    assert throttle.reason is None
    assert throttle.last_pause_reason is not None
    assert throttle.last_pause_reason.startswith("the slowest")


def test_wait_ends_when_chats_get_faster(throttle: Throttle) -> None:
    latency = throttle._latency
    assert isinstance(latency, FixedLatency)
    latency.milliseconds = 200.0
    calls = iter([1, 2, 3])

    def sleep(seconds: float) -> None:
        if next(calls) == 3:
            latency.milliseconds = 1.0

    throttle._sleep = sleep
    assert throttle.pause(0.1) == 3 * SAMPLE_INTERVAL


@pytest.mark.parametrize("table", ["messages", "conversations", "conversation_archives"])
def test_maintenance_of_its_tables_adds_pauses(
    throttle: Throttle, engine: Engine, slept: list[float], table: str
) -> None:
    with engine.begin() as maintaining:  # the lock that VACUUM and ANALYZE hold
        maintaining.execute(text(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE"))
        assert throttle.pause(0.1) == MAINTENANCE_PAUSE
    assert throttle.reason == f"{table} is being maintained"
    assert slept == [MAINTENANCE_PAUSE]
    assert throttle.pause(0.1) == 0.0


def test_maintenance_of_other_tables_is_ignored(throttle: Throttle, engine: Engine) -> None:
    with engine.begin() as maintaining:
        maintaining.execute(text("LOCK TABLE sessions IN SHARE UPDATE EXCLUSIVE MODE"))
        assert throttle.pause(0.1) == 0.0


def test_nearly_exhausted_connections_are_waited_for(throttle: Throttle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTION_SHARE", 0.0)
    assert throttle.pause(0.1) == MAX_WAIT
    assert throttle.reason is not None
    assert "connections are in use" in throttle.reason


@pytest.mark.process
def test_requests_waiting_in_another_process_are_waited_for(
    throttle: Throttle, settings: Settings, tmp_path: Path
) -> None:
    assert requests_waiting(tmp_path) is None  # no process publishes there
    command = [sys.executable, "-c", WAITER, str(tmp_path), str(settings.database.url)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=PROJECT, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        wait_until(lambda: requests_waiting(tmp_path) == 1)
        assert throttle.pause(0.1) == MAX_WAIT
        assert throttle.reason == "1 requests wait for a database connection"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "free\n"
        wait_until(lambda: requests_waiting(tmp_path) == 0)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(30) == 0


def test_latency_is_read_from_pg_stat_statements(engine: Engine, watching: Connection, execute: Execute) -> None:
    execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    try:
        begin = "SELECT /* turns.begin rid=x */ pg_sleep(0.002 * (1 + :n % 2))"
        for number in range(50):  # so that pg_stat_statements keeps it, despite the statements of other tests
            execute(begin, n=number)
        latency = choose_latency_source(watching)
        assert isinstance(latency, StatementTimes)
        for number in range(20):
            execute(begin, n=number)
        milliseconds = latency.sample()
        assert milliseconds is not None
        assert milliseconds > 3.0
        assert not latency.chats_idle
        assert latency.sample() is None  # no statement since then
        assert latency.chats_idle
    finally:
        execute("DROP EXTENSION pg_stat_statements")


def test_latency_without_statistics_comes_from_sample_reads(
    engine: Engine, watching: Connection, execute: Execute, user: LoggedInUser
) -> None:
    make_idle(engine, user, numbered_messages(30))
    execute("DROP EXTENSION IF EXISTS pg_stat_statements")
    latency = choose_latency_source(watching)
    assert isinstance(latency, SampleReads)
    assert [latency.sample() for _ in range(9)] == [None] * 9
    milliseconds = latency.sample()
    assert milliseconds is not None
    assert milliseconds > 0
    assert not latency.chats_idle, "unknown"


def test_run_reports_its_pauses(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    conversations = [make_idle(engine, user, numbered_messages(3)) for _ in range(2)]

    class BusyThrottle(Throttle):
        def pause(self, batch_seconds: float, messages: int | None = None) -> float:
            self.last_pause_reason = "another process"
            return 1.5

    done = archive_all(
        flask_app,
        make_throttle=lambda connection: BusyThrottle(
            connection, home=Path("/nowhere"), slow_ms=1, pace=1, latency=FixedLatency()
        ),
    )
    assert (done.conversations, done.paused_seconds, done.paused_for) == (2, 1.5, "another process")
    assert {storage_state(engine, conversation)[1] for conversation in conversations} == {"bundled"}
