"""What every job gets: the application's context, the id of the request that asked, a recorded run, another try."""

import hashlib
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from celery import Task, shared_task
from celery.exceptions import SoftTimeLimitExceeded

from app.errors import ParleyError
from app.logs import request_id
from app.metrics.jobs import record_job, record_queue_wait
from app.models.columns import new_id
from app.models.job_run import JobRunStatus
from ops.declarations import Job
from ops.runs import DATABASE_AWAY, Asked, Run, run_job

GRACE_SECONDS = 10  # from asking a run that takes too long to end, to ending its process
_DATABASE_TRIES = 8  # of what no clock asked for; the last one about four minutes after the first
_LONGEST_PAUSE = 60  # seconds between two of them

_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger("parley.jobs")


class TookTooLong(ParleyError):
    code = "job_took_too_long"
    default_detail = "It took longer than it may and was ended."


def job(entry: Job) -> Callable[[Callable[..., Any]], Any]:
    """Make a function the job that `entry` declares. It takes keyword arguments and returns a report, or None."""
    longest = entry.longest.total_seconds()
    declare: Callable[[Callable[..., Any]], Any] = shared_task(
        name=entry.name,
        base=RecordedJob,
        entry=entry,
        soft_time_limit=longest,
        time_limit=longest + GRACE_SECONDS,
        max_retries=None,  # counted by the history, which also counts deliveries that killed their worker
    )
    return declare


class RecordedJob(Task):
    """Celery's side of a run: what the message says goes in; what the history says decides whether it comes again."""

    abstract = True
    entry: Job

    def __call__(self, *args: Any, **arguments: Any) -> None:
        asked = _asked(self.request, arguments)
        token = request_id.set(asked.request_id or "")
        try:
            with self.app.flask_app.app_context():
                self._run(asked, partial(self.run, *args, **arguments))
        finally:
            request_id.reset(token)

    def _run(self, asked: Asked, work: Callable[[], Any]) -> None:
        if asked.queued_at is not None and not self.request.retries:
            record_queue_wait((datetime.now(asked.queued_at.tzinfo) - asked.queued_at).total_seconds())
        try:
            run = run_job(self.entry, partial(_in_time, work), asked)
        except DATABASE_AWAY as error:
            self._put_off(error, asked)
            return
        again = self._may_try_again(run)
        if run.status is not JobRunStatus.SKIPPED:
            record_job(self.name, "retried" if again else _OUTCOMES[run.status], run.seconds)
        if again:
            raise self.retry(countdown=self.entry.retry_after.total_seconds() * 4 ** (run.attempt - 1))
        if run.error is not None:
            raise run.error

    def _may_try_again(self, run: Run) -> bool:
        """Whether a failed run is followed by another; a job with a schedule is tried again by its schedule."""
        return run.error is not None and self.entry.schedule is None and run.attempt < self.entry.deliveries

    def _put_off(self, error: Exception, asked: Asked) -> None:
        """Without a database there is no run yet. What the clock asked for is put off until its next slot comes."""
        retries = self.request.retries
        pause = min(2**retries, _LONGEST_PAUSE)
        _log.error("job %s: no database: %s", self.name, type(error).__name__, extra={"job": self.name})
        if self.entry.schedule is None or asked.slot is None:
            again = retries < _DATABASE_TRIES
        else:
            again = self.entry.schedule.slot(datetime.now(UTC) + timedelta(seconds=pause)) == asked.slot
        if again:
            raise self.retry(countdown=pause)
        raise error


_OUTCOMES: dict[JobRunStatus, Any] = {
    JobRunStatus.SUCCEEDED: "succeeded",
    JobRunStatus.FAILED: "failed",
}


def _in_time(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except SoftTimeLimitExceeded:
        raise TookTooLong from None


def _asked(request: Any, arguments: dict[str, Any]) -> Asked:
    headers = request.headers or {}
    return Asked(
        message_id=_plain(request.id) or hashlib.sha256(str(request.id).encode()).hexdigest(),
        slot=_moment(headers.get("slot")),
        queued_at=_moment(headers.get("queued_at")),
        request_id=_plain(headers.get("request_id")) or new_id().hex,
        arguments=arguments,
    )


def _moment(text: Any) -> datetime | None:
    """A message may come from anywhere; what it says of itself is taken if it can be understood."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else None


def _plain(text: Any) -> str:
    return text if isinstance(text, str) and _PLAIN.fullmatch(text) else ""
