"""Indexes: the last plan of what would mend them, and its application by a worker."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import NotFound, Unavailable
from app.jobs import ask_for
from ops.api.reports import schema_of
from ops.api.requests import requester
from ops.api.schemas.indexes import ApplyingSchema
from ops.api.schemas.jobs import AskedSchema
from ops.audit import audited
from ops.indexes import asked

blueprint = Blueprint(
    "admin_indexes",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/indexes",
    description="What would mend the indexes, for operators",
)


@blueprint.route("/plan")
class IndexPlan(MethodView):
    @blueprint.response(200, schema_of(asked.Planned))
    @blueprint.raises(NotFound)
    def get(self) -> asked.Planned:
        """The last plan; `POST /api/admin/jobs/indexes.plan/runs` asks for a new one"""
        return asked.last_plan()


@blueprint.route("/apply")
class ApplyingIndexPlan(MethodView):
    @blueprint.arguments(ApplyingSchema)
    @blueprint.response(202, AskedSchema)
    @blueprint.raises(NotFound, Unavailable)
    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Apply a plan that you have read; a worker does it, and its report says what became of each step"""
        planned = asked.planned_by(body["run_id"])
        arguments = {**body, "run_id": str(planned.run_id)}
        with audited(by=requester(), action="index.ask_apply", on=str(planned.run_id), details=arguments) as notes:
            message_id = ask_for(asked.APPLY, **arguments)
            notes["message_id"] = str(message_id)
        return {"message_id": message_id}
