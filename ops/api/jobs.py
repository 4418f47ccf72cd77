"""Jobs, their recorded runs, and requests to run one."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.enums import UserRole
from app.errors import Conflict, NotFound, PermissionDenied, Unavailable
from app.jobs import enqueue_confirmed
from ops.api.reports import schema_of
from ops.api.requests import current_actor
from ops.api.schemas.jobs import (
    RUNS,
    CancellationSchema,
    EnqueuedSchema,
    JobsSchema,
    PauseSchema,
    RunPage,
    RunQuery,
    RunRequestSchema,
    RunSchema,
)
from ops.catalogue.jobs import JOBS
from ops.runs.audit import audited
from ops.runs.cancellations import CancelledRun, cancel_run, find_cancellable
from ops.runs.history import RecordedRun, find_run, job_overviews, recent_runs
from ops.runs.pauses import PausedJob, pause_job, resume_job
from ops.runs.repeat import RepeatedRun, find_failed_run, repeat_run
from ops.runs.run import job_arguments
from ops.runs.workers import PurgedQueue, WorkersReport, purge_queue, read_workers

blueprint = Blueprint(
    "admin_jobs",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/jobs",
    description="Jobs and their runs, for operators",
)
SCHEDULED = {job.name: job for job in JOBS if job.schedule}


def _require_admin_for_a_user(job: str | None, arguments: dict[str, Any]) -> None:
    """Raise `PermissionDenied` unless the caller is an admin or the run is not for a certain user."""
    is_for_a_user = job is None or job.startswith("users.") or "user_id" in arguments
    if is_for_a_user and caller().role != UserRole.ADMIN:
        raise PermissionDenied("This run may be for a certain user, so only an admin can retry or cancel it.")


@blueprint.route("")
class Jobs(MethodView):
    @blueprint.response(200, JobsSchema)
    def get(self) -> dict[str, Any]:
        """List all jobs with the last run and the next due time."""
        return {"items": job_overviews(now=datetime.now(UTC))}


@blueprint.route("/runs")
class Runs(MethodView):
    @blueprint.arguments(RunQuery, location="query")
    @blueprint.response(200, RunPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List recorded runs with their reports, newest first."""
        after = query.pop("after")
        rows = recent_runs(**{**query, "after": after[0] if after else None, "limit": query["limit"] + 1})
        return RUNS.envelope(rows, query["limit"])


@blueprint.route("/runs/<uuid:run_id>")
class JobRun(MethodView):
    @blueprint.response(200, RunSchema)
    def get(self, run_id: UUID) -> RecordedRun:
        """Get one run with its report."""
        run = find_run(run_id)
        if run is None:
            raise NotFound("No run has this id; `GET /api/admin/jobs/runs` lists the recorded runs.")
        return run


@blueprint.route("/runs/<uuid:run_id>/retry")
class RunRetry(MethodView):
    @blueprint.response(202, schema_of(RepeatedRun))
    @blueprint.raises(NotFound, Conflict, PermissionDenied, Unavailable)
    def post(self, run_id: UUID) -> RepeatedRun:
        """Enqueue a failed, lost or cancelled run again, with the same arguments.

        A run for a certain user requires an admin.
        """
        with audited(actor=current_actor(), action="job.retry", details={"run": str(run_id)}) as notes:
            failed = find_failed_run(run_id)
            notes["job"] = failed.job
            _require_admin_for_a_user(failed.job, failed.arguments)
            repeated = repeat_run(failed)
            notes["message_id"] = str(repeated.message_id)
        return repeated


@blueprint.route("/runs/<uuid:run_id>/cancel")
class RunCancellation(MethodView):
    @blueprint.arguments(CancellationSchema)
    @blueprint.response(202, schema_of(CancelledRun))
    @blueprint.raises(NotFound, Conflict, PermissionDenied, Unavailable)
    def post(self, body: dict[str, Any], run_id: UUID) -> CancelledRun:
        """Cancel a run that waits, runs, or waits to be tried again, by its id or that of its message.

        A waiting run does not begin. A running one is interrupted, and its process is killed if it has not ended after
        ten seconds. Neither is retried. A run for a certain user requires an admin.
        """
        by, details = current_actor(), {"run": str(run_id), "reason": body["reason"]}
        with audited(actor=by, action="job.cancel", details=details) as notes:
            found = find_cancellable(run_id)
            notes["job"], notes["message_id"] = found.job, found.message_id
            _require_admin_for_a_user(found.job, found.arguments)
            cancelled = cancel_run(found, reason=body["reason"], by=by)
            notes["cancelled_while"], notes["worker"] = cancelled.cancelled_while, cancelled.worker
        return cancelled


@blueprint.route("/workers")
class Workers(MethodView):
    @blueprint.response(200, schema_of(WorkersReport))
    @blueprint.raises(Unavailable)
    def get(self) -> WorkersReport:
        """List the workers that reply within three seconds, what they run, and the queues."""
        return read_workers()


@blueprint.route("/queues/<string:queue>/purge")
class QueuePurge(MethodView):
    @blueprint.response(200, schema_of(PurgedQueue))
    @blueprint.raises(NotFound, Unavailable)
    def post(self, queue: str) -> PurgedQueue:
        """Delete the messages of a queue that no worker has received; periodic jobs find the necessary work again."""
        with audited(actor=current_actor(), action="queue.purge", target=queue) as notes:
            purged = purge_queue(queue=queue)
            notes["deleted"] = purged.deleted
        return purged


@blueprint.route("/<string:job_name>/pause")
class Pause(MethodView):
    @blueprint.arguments(PauseSchema)
    @blueprint.response(200, schema_of(PausedJob))
    @blueprint.raises(NotFound, Conflict)
    def put(self, body: dict[str, Any], job_name: str) -> PausedJob:
        """Pause a scheduled job: workers skip what beat requests, until it is resumed.

        Repeating it replaces the reason.
        """
        by = current_actor()
        with audited(actor=by, action="job.pause", target=job_name, details={"reason": body["reason"]}):
            return pause_job(job=job_name, reason=body["reason"], by=by)

    @blueprint.response(200, schema_of(PausedJob))
    @blueprint.raises(NotFound)
    def delete(self, job_name: str) -> PausedJob:
        """Resume a paused job; it runs in its next slot. Returns how it was paused."""
        with audited(actor=current_actor(), action="job.resume", target=job_name) as notes:
            resumed = resume_job(job=job_name)
            notes["paused_since"], notes["paused_by"] = resumed.since.isoformat(), resumed.by
        return resumed


@blueprint.route("/<string:job_name>/runs")
class JobRuns(MethodView):
    @blueprint.arguments(RunRequestSchema)
    @blueprint.response(202, EnqueuedSchema)
    @blueprint.raises(NotFound, Unavailable)
    def post(self, body: dict[str, Any], job_name: str) -> dict[str, Any]:
        """Enqueue a job; the worker skips it while another run of it is in progress.

        With `dry_run` the job reports what it would change; jobs without a dry run refuse it.
        """
        if job_name not in SCHEDULED:
            raise NotFound("No scheduled job has this name; `GET /api/admin/jobs` lists all jobs.")
        arguments = job_arguments(SCHEDULED[job_name], dry_run=body["dry_run"])
        with audited(actor=current_actor(), action="job.request", target=job_name, details=arguments) as notes:
            message_id = enqueue_confirmed(job_name, **arguments)
            notes["message_id"] = str(message_id)
        return {"message_id": message_id}
