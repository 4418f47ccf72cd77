"""Backups: which there are, and what is known of them. They are taken, read and proven by jobs."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import Conflict, NotFound, Unavailable
from app.jobs import ask_for
from app.services.container import services
from ops.api.reports import schema_of
from ops.api.requests import requester
from ops.api.schemas.backups import DrillSchema, PruningSchema, VerifyingSchema
from ops.api.schemas.jobs import AskedSchema
from ops.audit import audited
from ops.backup.errors import NoSuchBackup, NotSetUp, StoreFailed
from ops.backup.inventory import Inventory
from ops.backup.listing import Listing, listing
from ops.backup.stores.opening import open_store
from ops.catalogue import DRILL, PRUNE_BACKUPS, VERIFY_BACKUPS
from ops.declarations import Job

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


@blueprint.route("/verify")
class Verifying(MethodView):
    @blueprint.arguments(VerifyingSchema)
    @blueprint.response(202, AskedSchema)
    @blueprint.raises(NotFound, Conflict, Unavailable)
    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Read a backup, or all, and compare with the manifest; a worker does it, and restores nothing"""
        return _ask(VERIFY_BACKUPS, "backup.ask_verify", body)


@blueprint.route("/drill")
class Drilling(MethodView):
    @blueprint.arguments(DrillSchema)
    @blueprint.response(202, AskedSchema)
    @blueprint.raises(NotFound, Conflict, Unavailable)
    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Prove a backup: restore it into a scratch database and compare; a worker does it"""
        return _ask(DRILL, "backup.ask_drill", body)


@blueprint.route("/prune")
class Pruning(MethodView):
    @blueprint.arguments(PruningSchema)
    @blueprint.response(202, AskedSchema)
    @blueprint.raises(Conflict, Unavailable)
    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Remove the backups that need not be kept, or only say which; a worker does it"""
        return _ask(PRUNE_BACKUPS, "backup.ask_prune", body)


def _ask(job: Job, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Have it done. What no run could do is refused at once: without a place, without that store, or that backup."""
    with audited(by=requester(), action=action, on=arguments.get("name"), details=arguments) as notes:
        try:
            store = open_store(services().settings, hasty=True)
            if arguments.get("name"):
                Inventory.of(store).find(arguments["name"])
        except NotSetUp as error:
            raise Conflict(error.detail) from None
        except NoSuchBackup as error:
            raise NotFound(error.detail) from None
        except StoreFailed as error:
            raise Unavailable(error.detail) from error
        message_id = ask_for(job.name, **arguments)
        notes["message_id"] = str(message_id)
    return {"message_id": message_id}
