"""Backups: which there are, and what is known of them. They are taken and proven by jobs."""

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import Unavailable
from app.services.container import services
from ops.api.reports import schema_of
from ops.backup.errors import StoreFailed
from ops.backup.listing import Listing, listing

blueprint = Blueprint(
    "admin_backups",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/backups",
    description="Backups and what was found about them, for operators",
)


@blueprint.route("")
class Backups(MethodView):
    @blueprint.response(200, schema_of(Listing))
    @blueprint.raises(Unavailable)
    def get(self) -> Listing:
        """Every backup in the store; `POST /api/admin/jobs/backups.daily/runs` takes one now"""
        try:
            return listing(services().settings)
        except StoreFailed as error:
            raise Unavailable(error.detail) from error
