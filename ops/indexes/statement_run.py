"""Running one statement of a step, with timeouts that fit its locks.

A CONCURRENTLY statement takes weak locks and waits for other transactions several times. A short `lock_timeout` would
end it halfway and leave an invalid index, so it has none, but a `statement_timeout` of minutes. Every other statement
waits for its lock for a few seconds only, because later requests queue behind it.
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
TICK = 0.5  # seconds between two reports of progress

SET = "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)"
BUILD_PROGRESS = Statement(
    "ops.build_progress",
    """
SELECT phase, CASE WHEN blocks_total > 0 THEN 100 * blocks_done / blocks_total END AS percent,
       lockers_total - lockers_done AS waits_for
  FROM pg_stat_progress_create_index WHERE pid = %(pid)s""",
)


@dataclass(frozen=True, slots=True)
class StatementRun:
    """The end of a statement. `error` is None if it succeeded; `lost`: the session ended with it."""

    seconds: float
    error: str | None = None
    lost: bool = False


def run_statement(connection: Connection, sql: str, *, seconds: float, tick: Callable[[], None]) -> StatementRun:
    """Run `sql` for at most `seconds`, and call `tick` regularly while it runs.

    An exception in this thread, such as that of Ctrl-C, cancels the statement, waits for its end, and is raised again.
    """
    driver: Any = connection.connection.dbapi_connection
    lock_seconds = 0 if is_concurrent(sql) else LOCK_SECONDS
    started = time.monotonic()
    with ThreadPoolExecutor(1, thread_name_prefix="parley-index") as threads:
        future = threads.submit(_execute, driver, sql, lock_seconds, seconds)
        try:
            while wait([future], TICK).not_done:
                tick()
        except BaseException:
            _cancel(driver, future)
            raise
    error = future.result()
    elapsed = round(time.monotonic() - started, 3)
    return StatementRun(elapsed, None if error is None else " ".join(str(error).split()), bool(driver.closed))


def is_concurrent(sql: str) -> bool:
    """Return whether the statement is one of the CONCURRENTLY variants, which allow writes."""
    return "CONCURRENTLY" in sql.split(maxsplit=4)[:4]


def build_progress(connection: Connection, pid: int) -> str:
    """Return the phase of the build that process `pid` runs, with its percentage; empty if it builds nothing."""
    row = BUILD_PROGRESS.one(connection, {"pid": pid})
    if row is None:
        return ""
    waiting = f", waiting for {row.waits_for}" if row.waits_for else ""
    return f"{row.phase}{f' {row.percent}%' if row.percent is not None else ''}{waiting}"


def _execute(driver: Any, sql: str, lock_seconds: float, seconds: float) -> Exception | None:
    try:
        with closing(driver.cursor()) as cursor:
            cursor.execute(SET, (f"{round(lock_seconds * 1000)}ms", f"{max(1, round(seconds * 1000))}ms"))
            cursor.execute(sql)  # without parameters, so that a % in a name is literal
    except psycopg2.Error as error:
        return error
    return None


def _cancel(driver: Any, future: "Future[Exception | None]") -> None:
    """Cancel the statement and wait for its end: only then does PostgreSQL release its locks."""
    with suppress(psycopg2.Error):
        driver.cancel()
    wait([future])
