"""Health checks."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access, is_ops_caller
from app.api.blueprint import Blueprint
from app.api.schemas.health import HealthSchema, LiveSchema, ReadySchema
from app.services import health

blueprint = Blueprint(
    "health", __name__, access=Access.PUBLIC, limited=False, always_served=True, description="Health checks"
)


@blueprint.route("/health")
class Health(MethodView):
    @blueprint.response(200, HealthSchema)
    @blueprint.alt_response(503, schema=HealthSchema)
    def get(self) -> tuple[dict[str, str], int]:
        """Check the database and its migrations: 200, or 503 if one of them is not ready."""
        report = health.check()
        return {"status": "ok" if report.ok else "unavailable", "detail": report.detail}, 200 if report.ok else 503


@blueprint.route("/health/live")
class Live(MethodView):
    @blueprint.response(200, LiveSchema)
    def get(self) -> dict[str, str]:
        """Check that the process responds: 200 without any further check."""
        return {"status": "ok"}


@blueprint.route("/health/ready")
class Ready(MethodView):
    @blueprint.response(200, ReadySchema)
    @blueprint.alt_response(503, schema=ReadySchema)
    def get(self) -> tuple[dict[str, Any], int]:
        """Check that requests can be served: 200 or 503; details are for monitoring only."""
        state = health.readiness()
        body: dict[str, Any] = {"status": "ok" if state.ready else "unavailable"}
        if is_ops_caller():
            body["parts"] = state.parts
        return body, 200 if state.ready else 503
