"""Runs of jobs: exclusive where the job says so, recorded in `job_runs`, logged."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from app.bounds import JOB_REASON_LIMIT
from app.database import autocommit
from app.enums import JobRunStatus
from app.errors import InvalidInput, ParleyError
from app.ids import new_id
from app.logs import redact
from app.repositories import job_cancellations
from app.repositories import job_runs as sql
from app.repositories.statement import Statement
from ops.catalogue.declarations import Job, supports_dry_run
from ops.runs.leases import try_lease
from ops.runs.retries import DATABASE_ERRORS, execute_with_retries

RETRY_SECONDS = 20.0  # for recording the result of a run
# A scheduled job does not start again within this time after its end, or within half its interval if that is shorter.
MIN_PAUSE = timedelta(minutes=5)

_log = logging.getLogger("parley.jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Origin and arguments of a run. `message_id` stays the same when a message is redelivered."""

    message_id: str | None = None
    slot: datetime | None = None
    queued_at: datetime | None = None
    request_id: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Outcome of a run. `attempt` counts the deliveries of its message from 1; `seconds` is the time the work took."""

    id: UUID
    status: JobRunStatus
    attempt: int
    seconds: float = 0.0
    report: dict[str, Any] | None = None
    reason: str | None = None
    error: Exception | None = None


def job_arguments(job: Job, *, dry_run: bool) -> dict[str, Any]:
    """Return the arguments of a run on request. Raises `InvalidInput` if `job` has no dry run."""
    if not dry_run:
        return {}
    if not supports_dry_run(job):
        raise InvalidInput(f"{job.name} has no dry run.")
    return {"dry_run": True}


def run_job(job: Job, work: Callable[[], Any], request: RunRequest) -> RunResult:
    """Call `work` as a recorded run of `job`. `work` returns a report dataclass or None.

    An exception of `work` makes a failed run: it is logged and returned in the result. The run of a cancelled message
    ends as cancelled, without an error. Raises `DBAPIError` or SQLAlchemy's `TimeoutError` if the start cannot be
    recorded; `work` is not called then.
    """
    run_id = new_id()
    with _exclusive(job) as acquired:
        row = _execute(sql.BEGIN if acquired else sql.SKIP, _parameters(job, request, run_id))
        if row is None:
            reason = f"message {request.message_id} was delivered {job.deliveries} times and no run of it finished"
            return _log_result(
                job, RunResult(id=run_id, status=JobRunStatus.FAILED, attempt=job.deliveries + 1, reason=reason)
            )
        if row.status != JobRunStatus.RUNNING:
            status = JobRunStatus(row.status)
            return _log_result(job, RunResult(id=run_id, status=status, attempt=row.attempt, reason=row.reason))
        try:
            # A cancellation that BEGIN did not see yet is seen here, or it finds the run that BEGIN has recorded.
            run = _cancelled(request, run_id, row.attempt) or _work(work, run_id, row.attempt)
            if run.status is JobRunStatus.FAILED:
                run = _cancelled_while_working(request, run)
        except KeyboardInterrupt:  # on the command line; a worker ends its jobs in another way
            reason = "interrupted by the operator"
            _finish(job, RunResult(id=run_id, status=JobRunStatus.FAILED, attempt=row.attempt, reason=reason))
            raise
        _finish(job, run)
        return _log_result(job, run)


@contextmanager
def recorded_command(job: Job) -> Iterator[Callable[[Any], None]]:
    """Time the block, the work of `job` in a command; call the yielded function with the report if it did all of it.

    The run is then part of the job's history, so that the list of jobs shows it; a scheduled run is not skipped for it.
    Nothing is recorded without a call. If the database does not take the record, that is logged: the work is done.
    """
    started = time.monotonic()

    def record(report: Any) -> None:
        values = {
            "id": new_id(),
            "job": job.name,
            "worker": _process(),
            "arguments": _json({"command": True}),
            "seconds": time.monotonic() - started,
            "report": _json(asdict(report)),
        }
        try:
            _execute(sql.RECORD, values)
        except DATABASE_ERRORS as error:
            _log.warning("the run of %s in this command was not recorded: %s", job.name, type(error).__name__)

    yield record


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _work(work: Callable[[], Any], run_id: UUID, attempt: int) -> RunResult:
    started = time.monotonic()
    try:
        report = work()
        fields = asdict(report) if report is not None else None
    except Exception as error:
        seconds = time.monotonic() - started
        reason = error.detail if isinstance(error, ParleyError) else f"{type(error).__name__}: {error}"
        return RunResult(
            id=run_id,
            status=JobRunStatus.FAILED,
            attempt=attempt,
            seconds=seconds,
            reason=redact(reason).replace("\x00", "")[:JOB_REASON_LIMIT],
            error=error,
        )
    seconds = time.monotonic() - started
    return RunResult(id=run_id, status=JobRunStatus.SUCCEEDED, attempt=attempt, seconds=seconds, report=fields)


def _cancelled(request: RunRequest, run_id: UUID, attempt: int) -> RunResult | None:
    """Return the result of a run whose message is cancelled, or None."""
    if request.message_id is None:
        return None
    row = _execute(job_cancellations.REASON, {"message_id": request.message_id})
    if row.reason is None:
        return None
    return RunResult(id=run_id, status=JobRunStatus.CANCELLED, attempt=attempt, reason=row.reason)


def _cancelled_while_working(request: RunRequest, failed: RunResult) -> RunResult:
    """Return the failed run, or the cancelled one if a cancellation has ended it."""
    try:
        cancelled = _cancelled(request, failed.id, failed.attempt)
    except DATABASE_ERRORS:  # the run may be retried; when that begins, the cancellation is found
        return failed
    return failed if cancelled is None else replace(cancelled, seconds=failed.seconds)


@contextmanager
def _exclusive(job: Job) -> Iterator[bool]:
    """Hold the lease of an exclusive job; yield False if another run holds it, True otherwise."""
    if not job.exclusive:
        yield True
        return
    with try_lease(f"job.{job.name}") as lease:
        yield lease is not None


def _parameters(job: Job, request: RunRequest, run_id: UUID) -> dict[str, Any]:
    interval = job.schedule.interval if job.schedule else timedelta()
    return {
        "id": run_id,
        "job": job.name,
        "exclusive": job.exclusive,
        "deliveries": job.deliveries,
        "message_id": request.message_id,
        "slot": request.slot,
        "queued_at": request.queued_at,
        "request_id": request.request_id,
        "worker": _process(),
        "arguments": _json(dict(request.arguments)),
        "quiet": min(interval / 2, MIN_PAUSE).total_seconds(),
        "window": (interval + job.time_limit).total_seconds(),
    }


def _finish(job: Job, run: RunResult) -> None:
    """Record the result, with retries while the database is unavailable; beat.tick marks an unrecorded run as lost."""
    parameters = {
        "id": run.id,
        "status": run.status,
        "report": _json(run.report) if run.report is not None else None,
        "reason": run.reason,
    }
    if not execute_with_retries(sql.FINISH, parameters, seconds=RETRY_SECONDS):
        _log.error("the result of job %s was not recorded: %s", job.name, run.status, extra={"run_id": str(run.id)})


def _json(values: dict[str, Any]) -> str:
    """Serialize to JSON without NUL, which PostgreSQL does not store."""
    return orjson.dumps(values, default=str).decode().replace("\\u0000", "\\ufffd")


def _execute(statement: Statement, parameters: dict[str, Any]) -> Any:
    with autocommit() as connection:
        return statement.one(connection, parameters)


def _log_result(job: Job, run: RunResult) -> RunResult:
    level = logging.ERROR if run.status is JobRunStatus.FAILED else logging.INFO
    message = f"job {job.name} {run.status}" + (f": {run.reason}" if run.reason else "")
    extra = {"job": job.name, "run_id": str(run.id), "attempt": run.attempt, "milliseconds": round(run.seconds * 1000)}
    _log.log(level, "%s", message, extra=extra, exc_info=run.error)
    return run
