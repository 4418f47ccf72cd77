"""One run of one job, whoever asked for it: alone if the job wants that, recorded in `job_runs`, and never quietly."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from app.errors import ParleyError
from app.extensions import db
from app.logs import redact
from app.models.columns import new_id
from app.models.job_run import REASON_LIMIT, JobRunStatus
from app.repositories import job_runs as sql
from app.repositories.statement import Statement
from ops.declarations import Job
from ops.locks import locked

DATABASE_AWAY = (DBAPIError, PoolTimeout)
KEEP_TRYING = 20.0  # seconds to record how a run ended
QUIET = timedelta(minutes=5)  # a scheduled job does not run again sooner than this after its end, or half its interval

_log = logging.getLogger("parley.jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who or what asked for a run. `message_id` is the same whenever the same message is delivered again."""

    message_id: str | None = None
    slot: datetime | None = None
    queued_at: datetime | None = None
    request_id: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a run ended; `attempt` counts the deliveries of its message from 1. `seconds` is what the work took."""

    id: UUID
    status: JobRunStatus
    attempt: int
    seconds: float = 0.0
    report: dict[str, Any] | None = None
    reason: str | None = None
    error: Exception | None = None


def run_job(job: Job, work: Callable[[], Any], asked: Asked) -> Run:
    """Call `work` as a run of `job`, and record it. `work` returns a report dataclass, or None.

    An error of `work` makes a failed run; it is logged, and handed back. Raises `DBAPIError` or SQLAlchemy's
    `TimeoutError` where the run cannot be recorded beforehand; then `work` was not called.
    """
    run_id = new_id()
    with _alone(job) as alone:
        begun = _statement(sql.BEGIN if alone else sql.SKIP, _parameters(job, asked, run_id))
        if begun is None:
            reason = f"message {asked.message_id} was delivered {job.deliveries} times and never came to an end"
            return _told(job, Run(id=run_id, status=JobRunStatus.FAILED, attempt=job.deliveries + 1, reason=reason))
        if begun.status == JobRunStatus.SKIPPED:
            return _told(job, Run(id=run_id, status=JobRunStatus.SKIPPED, attempt=begun.attempt, reason=begun.reason))
        try:
            run = _work(work, run_id, begun.attempt)
        except KeyboardInterrupt:  # at a command line; a worker's jobs are ended otherwise
            reason = "somebody interrupted it"
            _finish(job, Run(id=run_id, status=JobRunStatus.FAILED, attempt=begun.attempt, reason=reason))
            raise
        _finish(job, run)
        return _told(job, run)


def _work(work: Callable[[], Any], run_id: UUID, attempt: int) -> Run:
    started = time.monotonic()
    try:
        report = work()
        told = asdict(report) if report is not None else None
    except Exception as error:
        seconds = time.monotonic() - started
        reason = error.detail if isinstance(error, ParleyError) else f"{type(error).__name__}: {error}"
        return Run(
            id=run_id,
            status=JobRunStatus.FAILED,
            attempt=attempt,
            seconds=seconds,
            reason=redact(reason).replace("\x00", "")[:REASON_LIMIT],
            error=error,
        )
    seconds = time.monotonic() - started
    return Run(id=run_id, status=JobRunStatus.SUCCEEDED, attempt=attempt, seconds=seconds, report=told)


@contextmanager
def _alone(job: Job) -> Iterator[bool]:
    """Whether no other run of an exclusive job is under way; none begins until this ends, or its process does."""
    if not job.exclusive:
        yield True
        return
    with locked(job.name) as connection:
        yield connection is not None


def _parameters(job: Job, asked: Asked, run_id: UUID) -> dict[str, Any]:
    every = job.schedule.every if job.schedule else timedelta()
    return {
        "id": run_id,
        "job": job.name,
        "exclusive": job.exclusive,
        "deliveries": job.deliveries,
        "message_id": asked.message_id,
        "slot": asked.slot,
        "queued_at": asked.queued_at,
        "request_id": asked.request_id,
        "worker": f"{socket.gethostname()}:{os.getpid()}",
        "arguments": _json(dict(asked.arguments)),
        "quiet": min(every / 2, QUIET).total_seconds(),
        "window": (every + job.longest).total_seconds(),
    }


def _finish(job: Job, run: Run) -> None:
    """Record the end, trying again while the database is away; then the run will be found lost, which is said here."""
    parameters = {
        "id": run.id,
        "status": run.status,
        "report": _json(run.report) if run.report is not None else None,
        "reason": run.reason,
    }
    tries = Retrying(
        retry=retry_if_exception_type(DATABASE_AWAY),
        stop=stop_after_delay(KEEP_TRYING),
        wait=wait_random_exponential(0.1, max=2),
    )
    try:
        tries(_statement, sql.FINISH, parameters)
    except RetryError:
        _log.error("the end of job %s was not recorded: %s", job.name, run.status, extra={"run_id": str(run.id)})


def _json(values: dict[str, Any]) -> str:
    """As PostgreSQL takes it: it stores no NUL."""
    return orjson.dumps(values, default=str).decode().replace("\\u0000", "\\ufffd")


def _statement(statement: Statement, parameters: dict[str, Any]) -> Any:
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        return statement.one(connection, parameters)


def _told(job: Job, run: Run) -> Run:
    level = logging.ERROR if run.status is JobRunStatus.FAILED else logging.INFO
    said = f"job {job.name} {run.status}" + (f": {run.reason}" if run.reason else "")
    extra = {"job": job.name, "run_id": str(run.id), "attempt": run.attempt, "milliseconds": round(run.seconds * 1000)}
    _log.log(level, "%s", said, extra=extra, exc_info=run.error)
    return run
