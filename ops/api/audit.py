"""The audit: who did what, on whom, from where, with which result."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from ops.api.schemas.audit import ACTS, ActPage, ActQuery
from ops.audit import acts

blueprint = Blueprint(
    "admin_audit",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/audit",
    description="What operators did, for operators",
)


@blueprint.route("")
class Audit(MethodView):
    @blueprint.arguments(ActQuery, location="query")
    @blueprint.response(200, ActPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """What operators did, the newest first"""
        after = query.pop("after")
        rows = acts(**{**query, "after": after[0] if after else None, "limit": query["limit"] + 1})
        return ACTS.envelope(rows, query["limit"])
