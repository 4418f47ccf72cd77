"""The receipts of accounts that were erased."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from ops.accounts.erasure import erasures
from ops.api.schemas.users import RECEIPTS, ReceiptPage, ReceiptQuery

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
        """The receipts, the newest first: what went of whom, and which backups still have it"""
        after = query.pop("after")
        rows = erasures(after=after[0] if after else None, limit=query["limit"] + 1)
        return RECEIPTS.envelope(rows, query["limit"])
