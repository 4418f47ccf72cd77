"""Base class of all Celery tasks: application context, request id, recorded run, retries."""

import hashlib
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from celery import Task, shared_task
from celery.exceptions import SoftTimeLimitExceeded

from app.enums import JobRunStatus
from app.errors import ParleyError
from app.ids import new_id
from app.logs import request_id
from app.metrics.jobs import record_job, record_queue_wait
from app.trace_context import parse_trace_context, trace_context
from ops.catalogue.declarations import Job
from ops.runs.retries import DATABASE_ERRORS
from ops.runs.run import RunRequest, RunResult, run_job

GRACE_SECONDS = 10  # from the soft to the hard time limit
_DATABASE_TRIES = 8  # of a job without a schedule; the last try is about four minutes after the first
_LONGEST_PAUSE = 60  # seconds between two tries

_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger("parley.jobs")


class JobTimeLimitExceeded(ParleyError):
    code = "job_took_too_long"
    default_detail = "The job exceeded its time limit and was ended."


def task(entry: Job) -> Callable[[Callable[..., Any]], Any]:
    """Register a function of keyword arguments, which returns a report or None, as the Celery task of a job."""
    seconds = entry.time_limit.total_seconds()
    declare: Callable[[Callable[..., Any]], Any] = shared_task(
        name=entry.name,
        base=RecordedJob,
        entry=entry,
        soft_time_limit=seconds,
        time_limit=seconds + GRACE_SECONDS,
        max_retries=None,  # counted by the recorded runs, which include deliveries that killed their worker
    )
    return declare


class RecordedJob(Task):
    """Celery task that records each run. The recorded runs decide whether a failed job is retried."""

    abstract = True
    entry: Job

    def __call__(self, *args: Any, **arguments: Any) -> None:
        run_request = _run_request(self.request, arguments)
        headers = self.request.headers or {}
        token = request_id.set(run_request.request_id or "")
        trace = trace_context.set(
            parse_trace_context(str(headers.get("traceparent", "")), str(headers.get("tracestate", "")))
        )
        try:
            with self.app.flask_app.app_context():
                self._run(run_request, partial(self.run, *args, **arguments))
        finally:
            trace_context.reset(trace)
            request_id.reset(token)

    def _run(self, run_request: RunRequest, work: Callable[[], Any]) -> None:
        if run_request.queued_at is not None and not self.request.retries:
            record_queue_wait((datetime.now(run_request.queued_at.tzinfo) - run_request.queued_at).total_seconds())
        try:
            run = run_job(self.entry, partial(_within_time_limit, work), run_request)
        except DATABASE_ERRORS as error:
            self._postpone(error, run_request)
            return
        retry = self._is_retried(run)
        if run.status is not JobRunStatus.SKIPPED:
            record_job(self.name, "retried" if retry else _OUTCOMES[run.status], run.seconds)
        if retry:
            raise self.retry(countdown=self.entry.retry_after.total_seconds() * 4 ** (run.attempt - 1))
        if run.error is not None:
            raise run.error

    def _is_retried(self, run: RunResult) -> bool:
        """Return whether the run is retried. A job with a schedule is not: its next slot is the retry."""
        return run.error is not None and self.entry.schedule is None and run.attempt < self.entry.deliveries

    def _postpone(self, error: Exception, run_request: RunRequest) -> None:
        """Retry without a database: a scheduled job until its next slot, others up to `_DATABASE_TRIES` times."""
        retries = self.request.retries
        pause = min(2**retries, _LONGEST_PAUSE)
        _log.error("job %s: no database: %s", self.name, type(error).__name__, extra={"job": self.name})
        if self.entry.schedule is None or run_request.slot is None:
            retry = retries < _DATABASE_TRIES
        else:
            retry = self.entry.schedule.slot(datetime.now(UTC) + timedelta(seconds=pause)) == run_request.slot
        if retry:
            raise self.retry(countdown=pause)
        raise error


_OUTCOMES: dict[JobRunStatus, Any] = {
    JobRunStatus.SUCCEEDED: "succeeded",
    JobRunStatus.FAILED: "failed",
    JobRunStatus.CANCELLED: "cancelled",
}


def _within_time_limit(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except SoftTimeLimitExceeded:
        raise JobTimeLimitExceeded from None


def _run_request(request: Any, arguments: dict[str, Any]) -> RunRequest:
    headers = request.headers or {}
    return RunRequest(
        message_id=_plain(request.id) or hashlib.sha256(str(request.id).encode()).hexdigest(),
        slot=_parse_time(headers.get("slot")),
        queued_at=_parse_time(headers.get("queued_at")),
        request_id=_plain(headers.get("request_id")) or new_id().hex,
        arguments=arguments,
    )


def _parse_time(text: Any) -> datetime | None:
    """Parse a time with an offset; None if it is invalid, because headers are not trusted."""
    try:
        parsed = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return parsed if parsed.tzinfo is not None else None


def _plain(text: Any) -> str:
    return text if isinstance(text, str) and _PLAIN.fullmatch(text) else ""
