"""Repair of indexes: the last plan, and a request to apply it."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import NotFound, Unavailable
from app.jobs import enqueue_confirmed
from ops.api.reports import schema_of
from ops.api.requests import current_actor
from ops.api.schemas.indexes import ApplyIndexPlanSchema
from ops.api.schemas.jobs import EnqueuedSchema
from ops.indexes import plan_jobs
from ops.runs.audit import audited

blueprint = Blueprint(
    "admin_indexes",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/indexes",
    description="Repair of indexes, for operators",
)


@blueprint.route("/plan")
class IndexPlan(MethodView):
    @blueprint.response(200, schema_of(plan_jobs.Planned))
    @blueprint.raises(NotFound)
    def get(self) -> plan_jobs.Planned:
        """Get the last plan; `POST /api/admin/jobs/indexes.plan/runs` requests a new one."""
        return plan_jobs.last_plan()


@blueprint.route("/apply")
class IndexPlanApplication(MethodView):
    @blueprint.arguments(ApplyIndexPlanSchema)
    @blueprint.response(202, EnqueuedSchema)
    @blueprint.raises(NotFound, Unavailable)
    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Enqueue the application of a reviewed plan; the report has the result of each step."""
        planned = plan_jobs.planned_by(body["run_id"])
        arguments = {**body, "run_id": str(planned.run_id)}
        with audited(
            actor=current_actor(), action="index.request_apply", target=str(planned.run_id), details=arguments
        ) as notes:
            message_id = enqueue_confirmed(plan_jobs.APPLY, **arguments)
            notes["message_id"] = str(message_id)
        return {"message_id": message_id}
