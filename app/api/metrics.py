"""Metrics for Prometheus."""

from flask import Response, request
from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.metrics import exposition

blueprint = Blueprint(
    "metrics", __name__, access=Access.OPS, limited=False, always_served=True, description="Metrics for Prometheus"
)


@blueprint.route("/metrics")
class Metrics(MethodView):
    @blueprint.response(200, {"type": "string"}, content_type="text/plain")
    @blueprint.alt_response(200, schema={"type": "string"}, content_type="application/openmetrics-text", success=True)
    def get(self) -> Response:
        """Get the metrics of all processes on this host, as OpenMetrics or Prometheus text."""
        body, content_type = exposition.render(request.headers.get("Accept", ""))
        return Response(body, content_type=content_type, headers={"Cache-Control": "no-store"})
