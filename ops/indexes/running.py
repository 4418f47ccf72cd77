"""One statement, in a session of its own, with the bounds that fit what it locks.

A CONCURRENTLY statement takes weak locks and waits for others' transactions, again and again. A short `lock_timeout`
would end it in the middle and leave an invalid index behind; so it has none, and minutes for all of it. Every other
statement may wait for its lock for seconds only, because whoever comes after it waits behind it.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import psycopg2
from sqlalchemy import Connection

from app.repositories.statement import Statement

LOCK_SECONDS = 3.0
TICK = 0.5  # seconds between two looks at how far it is

SET = "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)"
HOW_FAR = Statement(
    "ops.build_progress",
    """
SELECT phase, CASE WHEN blocks_total > 0 THEN 100 * blocks_done / blocks_total END AS percent,
       lockers_total - lockers_done AS waits_for
  FROM pg_stat_progress_create_index WHERE pid = %(pid)s""",
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a statement ended: `error` is None if it did what it should. `lost`: the session is gone with it."""

    seconds: float
    error: str | None = None
    lost: bool = False


def run(connection: Connection, sql: str, *, seconds: float, tick: Callable[[], None]) -> Ended:
    """Run `sql` for at most so many seconds, calling `tick` now and then. Ctrl-C cancels it, waits for its end, and is
    raised then."""
    driver: Any = connection.connection.dbapi_connection
    lock = 0 if is_concurrent(sql) else LOCK_SECONDS
    started = time.monotonic()
    with ThreadPoolExecutor(1, thread_name_prefix="parley-index") as threads:
        future = threads.submit(_execute, driver, sql, lock, seconds)
        try:
            while wait([future], TICK).not_done:
                tick()
        except BaseException:
            _cancel(driver, future)
            raise
    error = future.result()
    taken = round(time.monotonic() - started, 3)
    return Ended(taken, None if error is None else " ".join(str(error).split()), bool(driver.closed))


def is_concurrent(sql: str) -> bool:
    """Whether it lets others write meanwhile, and so takes as long as they do."""
    words = sql.split(maxsplit=4)
    return "CONCURRENTLY" in words[:4]


def how_far(connection: Connection, pid: int) -> str:
    """What the build of that process is at, in a few words; nothing if it builds nothing."""
    row = HOW_FAR.one(connection, {"pid": pid})
    if row is None:
        return ""
    waiting = f", waiting for {row.waits_for}" if row.waits_for else ""
    return f"{row.phase}{f' {row.percent}%' if row.percent is not None else ''}{waiting}"


def _execute(driver: Any, sql: str, lock: float, seconds: float) -> Exception | None:
    try:
        with closing(driver.cursor()) as cursor:
            cursor.execute(SET, (f"{round(lock * 1000)}ms", f"{max(1, round(seconds * 1000))}ms"))
            cursor.execute(sql)  # without parameters: a % in a name is a %
    except psycopg2.Error as error:
        return error
    return None


def _cancel(driver: Any, future: "Future[Exception | None]") -> None:
    """Only its own end leaves things in order."""
    with suppress(psycopg2.Error):
        driver.cancel()
    wait([future])
