"""Whether this server can do its work."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access, ops_caller
from app.api.blueprint import Blueprint
from app.api.schemas.health import HealthSchema, LiveSchema, ReadySchema
from app.services import health

blueprint = Blueprint(
    "health", __name__, access=Access.PUBLIC, limited=False, description="Whether the server can do its work"
)


@blueprint.route("/health")
class Health(MethodView):
    @blueprint.response(200, HealthSchema)
    @blueprint.alt_response(503, schema=HealthSchema)
    def get(self) -> tuple[dict[str, str], int]:
        """200 once the database answers and its migrations are current, else 503"""
        report = health.check()
        return {"status": "ok" if report.ok else "unavailable", "detail": report.detail}, 200 if report.ok else 503


@blueprint.route("/health/live")
class Live(MethodView):
    @blueprint.response(200, LiveSchema)
    def get(self) -> dict[str, str]:
        """200 as long as the process answers at all; asks nobody else"""
        return {"status": "ok"}


@blueprint.route("/health/ready")
class Ready(MethodView):
    @blueprint.response(200, ReadySchema)
    @blueprint.alt_response(503, schema=ReadySchema)
    def get(self) -> tuple[dict[str, Any], int]:
        """200 once requests can be served, else 503; what is wrong is told to whoever may know"""
        state = health.readiness()
        body: dict[str, Any] = {"status": "ok" if state.ready else "unavailable"}
        if ops_caller():
            body["parts"] = state.parts
        return body, 200 if state.ready else 503
