"""Jobs: what there is, what ran, and any of it now."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import NotFound, Unavailable
from app.jobs import ask_for
from ops.api.requests import requester
from ops.api.schemas.jobs import RUNS, AskedSchema, JobsSchema, RunPage, RunQuery, RunSchema
from ops.audit import audited
from ops.catalogue import JOBS
from ops.history import PastRun, history, overview, past_run

blueprint = Blueprint(
    "admin_jobs",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/jobs",
    description="What runs by itself, for operators",
)
SCHEDULED = {job.name for job in JOBS if job.schedule}


@blueprint.route("")
class Jobs(MethodView):
    @blueprint.response(200, JobsSchema)
    def get(self) -> dict[str, Any]:
        """Every job: how its last run ended, and when it is due next"""
        return {"items": overview(now=datetime.now(UTC))}


@blueprint.route("/runs")
class Runs(MethodView):
    @blueprint.arguments(RunQuery, location="query")
    @blueprint.response(200, RunPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """What ran, the newest first, with its reports"""
        after = query.pop("after")
        rows = history(**{**query, "after": after[0] if after else None, "limit": query["limit"] + 1})
        return RUNS.envelope(rows, query["limit"])


@blueprint.route("/runs/<uuid:run_id>")
class OneRun(MethodView):
    @blueprint.response(200, RunSchema)
    def get(self, run_id: UUID) -> PastRun:
        """One run, with its whole report"""
        found = past_run(run_id)
        if found is None:
            raise NotFound("There is no such run; `GET /api/admin/jobs/runs` lists those that are kept.")
        return found


@blueprint.route("/<string:job_name>/runs")
class RunsOfOne(MethodView):
    @blueprint.response(202, AskedSchema)
    @blueprint.raises(Unavailable)
    def post(self, job_name: str) -> dict[str, Any]:
        """Have a job run now; a worker does it, unless another run of it is under way"""
        if job_name not in SCHEDULED:
            raise NotFound("There is no job of that name that runs by itself; `GET /api/admin/jobs` lists them.")
        with audited(by=requester(), action="job.ask", on=job_name) as notes:
            message_id = ask_for(job_name)
            notes["message_id"] = str(message_id)
        return {"message_id": message_id}
