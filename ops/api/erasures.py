"""Receipts of erased users."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from ops.api.schemas.users import RECEIPTS, ReceiptPage, ReceiptQuery
from ops.users.receipts import list_receipts

blueprint = Blueprint(
    "admin_erasures",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/erasures",
    description="Receipts of erasures, for operators",
)


@blueprint.route("")
class Erasures(MethodView):
    @blueprint.arguments(ReceiptQuery, location="query")
    @blueprint.response(200, ReceiptPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List the receipts, newest first: the erased rows, and the backups that still contain them."""
        after = query.pop("after")
        rows = list_receipts(after=after[0] if after else None, limit=query["limit"] + 1)
        return RECEIPTS.envelope(rows, query["limit"])
