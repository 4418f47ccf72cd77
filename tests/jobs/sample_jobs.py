"""Sample jobs. They report their runs by files in the folder JOBS_TEST_FOLDER."""

import os
import signal
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from app.jobs import enqueue
from app.logs import request_id
from ops.catalogue.declarations import Job
from ops.catalogue.schedules import Schedule
from tasks.base import task

SECONDS = 60  # limit of each wait

TIME_LIMIT = timedelta(seconds=SECONDS)
ECHO = Job(name="sample.echo", description="Returns its argument.", time_limit=TIME_LIMIT, exclusive=False)
BLOCK = Job(
    name="sample.block", description="Waits for a file in its first run.", time_limit=TIME_LIMIT, exclusive=False
)
ALONE = Job(name="sample.alone", description="Waits for a file, exclusively.", time_limit=TIME_LIMIT)
FAIL = Job(
    name="sample.fail",
    description="Fails.",
    time_limit=TIME_LIMIT,
    exclusive=False,
    retry_after=timedelta(milliseconds=10),
)
POISON = Job(name="sample.poison", description="Kills its process.", time_limit=TIME_LIMIT, exclusive=False)
SLOW = Job(
    name="sample.slow", description="Takes too long.", time_limit=timedelta(seconds=1), exclusive=False, deliveries=1
)
RETRY_LATER = Job(
    name="sample.retry_later",
    description="Fails, and is tried again much later.",
    time_limit=TIME_LIMIT,
    exclusive=False,
    retry_after=timedelta(hours=1),
)
STUBBORN = Job(
    name="sample.stubborn", description="Does not end when it is asked to.", time_limit=TIME_LIMIT, exclusive=False
)
CHAIN = Job(name="sample.chain", description="Enqueues another job.", time_limit=TIME_LIMIT, exclusive=False)
EVERY_SECOND = Job(
    name="sample.every_second",
    description="Runs every second.",
    time_limit=TIME_LIMIT,
    schedule=Schedule(timedelta(seconds=1)),
)
DAILY = Job(
    name="sample.daily", description="Runs every day.", time_limit=TIME_LIMIT, schedule=Schedule(timedelta(days=1))
)

SAMPLES = (ECHO, BLOCK, ALONE, FAIL, RETRY_LATER, STUBBORN, POISON, SLOW, CHAIN, EVERY_SECOND, DAILY)


@dataclass(frozen=True)
class Echo:
    """Report of the echo job."""

    word: str
    request_id: str
    pid: int


@dataclass(frozen=True)
class Marks:
    """Report of a job: the number of earlier runs."""

    before: int


def folder() -> Path:
    """Return the folder of the files."""
    return Path(os.environ["JOBS_TEST_FOLDER"])


def mark(key: str) -> int:
    """Create a file with the process id for this run, and return the number of earlier files."""
    before = len(list(folder().glob(f"{key}.run*")))
    draft = folder() / f"{key}.draft"
    draft.write_text(str(os.getpid()))
    draft.rename(folder() / f"{key}.run{before}")
    return before


def wait_for_go(key: str) -> None:
    """Wait until the test creates the file `key`.go."""
    deadline = time.monotonic() + SECONDS
    while not (folder() / f"{key}.go").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(key)
        time.sleep(0.01)


@task(ECHO)
def echo(*, word: str) -> Echo:
    return Echo(word, request_id.get(), os.getpid())


@task(BLOCK)
def block(*, key: str) -> Marks:
    before = mark(key)
    if not before:
        wait_for_go(key)
    return Marks(before)


@task(ALONE)
def alone(*, key: str) -> Marks:
    before = mark(key)
    wait_for_go(key)
    return Marks(before)


@task(FAIL)
def fail(*, key: str, password: str) -> None:
    mark(key)
    raise RuntimeError(f"it cannot be done with password={password}")


@task(RETRY_LATER)
def retry_later() -> None:
    raise RuntimeError("not yet")


@task(STUBBORN)
def stubborn(*, key: str) -> None:
    mark(key)
    while True:
        try:
            wait_for_go(key)
        except Exception:
            continue


@task(POISON)
def poison(*, key: str) -> None:
    mark(key)
    os.kill(os.getpid(), signal.SIGKILL)


@task(SLOW)
def slow() -> None:
    time.sleep(SECONDS)


@task(CHAIN)
def chain(*, word: str) -> None:
    enqueue(ECHO.name, word=word)


@task(EVERY_SECOND)
def every_second() -> None:
    return None


@task(DAILY)
def daily() -> None:
    return None
