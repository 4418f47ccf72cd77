"""Who the archival makes way for: really waiting requests, really held locks, really slow statements."""

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, text

from app.config import Settings
from app.metrics.waiting import requests_waiting
from ops.archive import load as module
from ops.archive.latency import OwnReads, StatementTimes, latency
from ops.archive.load import LARGEST, LOOK_EVERY, PATIENCE, REST, SLOW_REST, SMALLEST, Load
from tests.archived import archive_all, make_idle, place, plain
from tests.factories import Account
from tests.ops.archive.conftest import Execute, Fixed

PROJECT = Path(__file__).parents[3]

# A process that counts with others and has one connection, for which a second request waits.
WAITER = """
import sys, threading
from pathlib import Path
from app.metrics.folder import share
share(Path(sys.argv[1]))
from sqlalchemy import create_engine
from app.pool import MeasuredPool
engine = create_engine(sys.argv[2], poolclass=MeasuredPool, pool_size=1, max_overflow=0, pool_timeout=60)
held = engine.connect()
threading.Thread(target=engine.connect, daemon=True).start()
print("there", flush=True)
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
def load(watching: Connection, tmp_path: Path, slept: list[float]) -> Load:
    """One that sleeps in no time, and whose clock goes on by ten seconds whenever it is looked at."""
    clock = itertools.count(0.0, 10.0)
    return Load(
        watching, home=tmp_path, slow_ms=50, pace=1000, sleep=slept.append, clock=clock.__next__, measure=Fixed()
    )


def test_with_nobody_there_it_rests_for_longer_than_it_works(load: Load, slept: list[float]) -> None:
    assert load.rest(0.15) == 0.0
    assert slept == [0.15 * REST]
    assert load.reason is None


def test_batches_adapt_to_their_duration(load: Load) -> None:
    sizes = []
    for took in [0.01] * 10 + [0.15] + [1.0] * 10:
        load.rest(took)
        sizes.append(load.messages)
    assert sizes[0] == 1_000
    assert sizes[9] == sizes[10] == LARGEST
    assert sizes[11] == LARGEST // 2
    assert sizes[-1] == SMALLEST


def test_beside_people_it_keeps_to_its_pace(load: Load, slept: list[float]) -> None:
    load._latency.quiet = False
    for _ in range(10):
        asked = load.messages
        load.rest(0.01)
        assert slept[-1] == pytest.approx(asked / 1000 - 0.01)
    assert load.messages == 200, "a fifth of a second's worth, and not a second's at once"
    slept.clear()
    load.rest(0.15)
    assert slept == [0.15 * REST], "what takes long is slow enough"
    load._latency.quiet = True
    load.rest(0.01)
    assert slept[-1] == 0.01 * REST
    assert load.messages == 400


def test_slow_chats_are_waited_for_but_not_for_ever(load: Load, slept: list[float]) -> None:
    measure = load._latency
    assert isinstance(measure, Fixed)
    measure.milliseconds = 49.9
    assert load.rest(0.1) == 0.0
    measure.milliseconds = 200.0
    slept.clear()
    assert load.rest(0.1) == PATIENCE
    assert slept == [LOOK_EVERY] * int(PATIENCE / LOOK_EVERY)
    assert load.messages == SMALLEST
    assert load.reason == "the slowest chats' statements take 200 ms, and 50 is the limit"
    measure.milliseconds = None
    assert load.rest(0.1) == 0.0
    assert load.reason is None
    assert load.waited_for is not None
    assert load.waited_for.startswith("the slowest")


def test_chats_that_get_faster_are_waited_for_no_longer(load: Load) -> None:
    measure = load._latency
    assert isinstance(measure, Fixed)
    measure.milliseconds = 200.0
    calls = iter([1, 2, 3])

    def sleep(seconds: float) -> None:
        if next(calls) == 3:
            measure.milliseconds = 1.0

    load._sleep = sleep
    assert load.rest(0.1) == 3 * LOOK_EVERY


@pytest.mark.parametrize("table", ["messages", "conversations", "conversation_archives"])
def test_maintenance_of_its_tables_slows_it_down(load: Load, engine: Engine, slept: list[float], table: str) -> None:
    with engine.begin() as maintaining:  # the lock that VACUUM and ANALYZE hold
        maintaining.execute(text(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE"))
        assert load.rest(0.1) == SLOW_REST
    assert load.reason == f"{table} is being maintained"
    assert slept == [SLOW_REST]
    assert load.rest(0.1) == 0.0


def test_other_peoples_tables_are_none_of_its_business(load: Load, engine: Engine) -> None:
    with engine.begin() as maintaining:
        maintaining.execute(text("LOCK TABLE sessions IN SHARE UPDATE EXCLUSIVE MODE"))
        assert load.rest(0.1) == 0.0


def test_a_server_that_is_nearly_full_is_left_alone(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FULL", 0.0)
    assert load.rest(0.1) == PATIENCE
    assert load.reason is not None
    assert "connections are in use" in load.reason


@pytest.mark.process
def test_requests_that_wait_for_a_connection_are_seen_across_processes(
    load: Load, settings: Settings, tmp_path: Path
) -> None:
    assert requests_waiting(tmp_path) is None  # nobody counts there
    command = [sys.executable, "-c", WAITER, str(tmp_path), str(settings.database.url)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=PROJECT, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        wait_for(lambda: requests_waiting(tmp_path) == 1)
        assert load.rest(0.1) == PATIENCE
        assert load.reason == "1 requests wait for a database connection"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "free\n"
        wait_for(lambda: requests_waiting(tmp_path) == 0)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(30) == 0


def wait_for(condition: Callable[[], bool]) -> None:
    """What another process is about to do has no event here."""
    pause = threading.Event()
    for _ in range(1_000):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it was not seen")


def test_times_of_the_turns_statements_are_read_from_the_server(
    engine: Engine, watching: Connection, execute: Execute
) -> None:
    execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    try:
        begin = "SELECT /* turns.begin rid=x */ pg_sleep(0.002 * (1 + :n % 2))"
        for number in range(50):  # so that it is known, and not soon forgotten for what other tests ask the same server
            execute(begin, n=number)
        measure = latency(watching)
        assert isinstance(measure, StatementTimes)
        for number in range(20):
            execute(begin, n=number)
        found = measure.look()
        assert found is not None
        assert found > 3.0
        assert not measure.quiet
        assert measure.look() is None  # nothing since
        assert measure.quiet
    finally:
        execute("DROP EXTENSION pg_stat_statements")


def test_without_statistics_it_reads_like_a_turn_itself(
    engine: Engine, watching: Connection, execute: Execute, user: Account
) -> None:
    make_idle(engine, user, plain(30))
    execute("DROP EXTENSION IF EXISTS pg_stat_statements")
    measure = latency(watching)
    assert isinstance(measure, OwnReads)
    assert [measure.look() for _ in range(9)] == [None] * 9
    found = measure.look()
    assert found is not None
    assert found > 0
    assert not measure.quiet, "it does not know"


def test_a_run_says_what_it_waited_for(flask_app: Flask, engine: Engine, user: Account) -> None:
    conversations = [make_idle(engine, user, plain(3)) for _ in range(2)]

    class Busy(Load):
        def rest(self, took: float) -> float:
            self.waited_for = "somebody"
            return 1.5

    done = archive_all(
        flask_app,
        make_load=lambda connection: Busy(connection, home=Path("/nowhere"), slow_ms=1, pace=1, measure=Fixed()),
    )
    assert (done.conversations, done.paused_seconds, done.paused_for) == (2, 1.5, "somebody")
    assert {place(engine, each)[1] for each in conversations} == {"bundled"}
