"""Jobs to test with. They tell of themselves by files in the folder that JOBS_TEST_FOLDER names."""

import os
import signal
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from app.jobs import enqueue
from app.logs import request_id
from ops.declarations import Job, Schedule
from tasks.base import job

SECONDS = 60  # bound of every wait

LONGEST = timedelta(seconds=SECONDS)
ECHO = Job(name="sample.echo", does="Reports what it was given.", longest=LONGEST, exclusive=False)
BLOCK = Job(name="sample.block", does="Waits in its first run.", longest=LONGEST, exclusive=False)
ALONE = Job(name="sample.alone", does="Waits, alone.", longest=LONGEST)
FAIL = Job(
    name="sample.fail",
    does="Fails.",
    longest=LONGEST,
    exclusive=False,
    retry_after=timedelta(milliseconds=10),
)
POISON = Job(name="sample.poison", does="Kills its process.", longest=LONGEST, exclusive=False)
SLOW = Job(name="sample.slow", does="Takes too long.", longest=timedelta(seconds=1), exclusive=False, deliveries=1)
CHAIN = Job(name="sample.chain", does="Asks for another.", longest=LONGEST, exclusive=False)
EVERY_SECOND = Job(
    name="sample.every_second", does="Runs every second.", longest=LONGEST, schedule=Schedule(timedelta(seconds=1))
)
DAILY = Job(name="sample.daily", does="Runs every day.", longest=LONGEST, schedule=Schedule(timedelta(days=1)))

SAMPLES = (ECHO, BLOCK, ALONE, FAIL, POISON, SLOW, CHAIN, EVERY_SECOND, DAILY)


@dataclass(frozen=True)
class Echo:
    word: str
    request_id: str
    pid: int


@dataclass(frozen=True)
class Marks:
    """How often it had been run before."""

    before: int


def folder() -> Path:
    return Path(os.environ["JOBS_TEST_FOLDER"])


def mark(key: str) -> int:
    """Leave a file for this run, which holds the process's id; returns how many were there before."""
    before = len(list(folder().glob(f"{key}.run*")))
    draft = folder() / f"{key}.draft"
    draft.write_text(str(os.getpid()))
    draft.rename(folder() / f"{key}.run{before}")
    return before


def wait_for_go(key: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not (folder() / f"{key}.go").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(key)
        time.sleep(0.01)


@job(ECHO)
def echo(*, word: str) -> Echo:
    return Echo(word, request_id.get(), os.getpid())


@job(BLOCK)
def block(*, key: str) -> Marks:
    before = mark(key)
    if not before:
        wait_for_go(key)
    return Marks(before)


@job(ALONE)
def alone(*, key: str) -> Marks:
    before = mark(key)
    wait_for_go(key)
    return Marks(before)


@job(FAIL)
def fail(*, key: str, password: str) -> None:
    mark(key)
    raise RuntimeError(f"it cannot be done with password={password}")


@job(POISON)
def poison(*, key: str) -> None:
    mark(key)
    os.kill(os.getpid(), signal.SIGKILL)


@job(SLOW)
def slow() -> None:
    time.sleep(SECONDS)


@job(CHAIN)
def chain(*, word: str) -> None:
    enqueue(ECHO.name, word=word)


@job(EVERY_SECOND)
def every_second() -> None:
    return None


@job(DAILY)
def daily() -> None:
    return None
