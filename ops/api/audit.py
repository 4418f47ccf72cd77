"""The recorded actions of operators."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from ops.api.refusals import refusal_counter
from ops.api.schemas.audit import ENTRIES, AuditPage, AuditQuery
from ops.runs.audit import audit_entries

blueprint = Blueprint(
    "admin_audit",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/audit",
    description="Actions of operators, for operators",
)


@blueprint.route("")
class Audit(MethodView):
    @blueprint.arguments(AuditQuery, location="query")
    @blueprint.response(200, AuditPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List the recorded actions of operators, newest first."""
        refusal_counter().flush()
        after = query.pop("after")
        rows = audit_entries(**{**query, "after": after[0] if after else None, "limit": query["limit"] + 1})
        return ENTRIES.envelope(rows, query["limit"])
