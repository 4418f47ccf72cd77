"""Backups: the list, and requests to verify, drill and prune, which jobs carry out."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.container import current_settings
from app.errors import Conflict, NotFound, Unavailable
from app.jobs import enqueue_confirmed
from app.storage.errors import StorageUnavailable
from ops.api.reports import schema_of
from ops.api.requests import current_actor
from ops.api.schemas.backups import DrillSchema, PruneSchema, VerificationSchema
from ops.api.schemas.jobs import EnqueuedSchema
from ops.backup.errors import BackupsNotConfigured, NoSuchBackup
from ops.backup.inventory import Inventory
from ops.backup.listing import BackupList, list_configured_backups
from ops.backup.status import BackupOverview, backup_status
from ops.backup.store import open_backup_store
from ops.catalogue.declarations import Job
from ops.catalogue.jobs import DRILL, PRUNE_BACKUPS, VERIFY_BACKUPS
from ops.runs.audit import audited

blueprint = Blueprint(
    "admin_backups",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/backups",
    description="Backups, for operators",
)


@blueprint.route("")
class Backups(MethodView):
    @blueprint.response(200, schema_of(BackupList))
    @blueprint.raises(Unavailable)
    def get(self) -> BackupList:
        """List all backups of the store; `POST /api/admin/jobs/backups.daily/runs` creates one."""
        try:
            return list_configured_backups(current_settings())
        except StorageUnavailable as error:
            raise Unavailable(error.detail) from error


@blueprint.route("/status")
class BackupState(MethodView):
    @blueprint.response(200, schema_of(BackupOverview))
    @blueprint.raises(Unavailable)
    def get(self) -> BackupOverview:
        """Get the newest backup, the last drill, what a loss would cost now, and unfinished restores."""
        try:
            return backup_status(current_settings(), quick=True)
        except StorageUnavailable as error:
            raise Unavailable(error.detail) from error


@blueprint.route("/verify")
class BackupVerification(MethodView):
    @blueprint.arguments(VerificationSchema)
    @blueprint.response(202, EnqueuedSchema)
    @blueprint.raises(NotFound, Conflict, Unavailable)
    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Enqueue the verification of a backup, or of all, against its manifest."""
        return _enqueue(VERIFY_BACKUPS, "backup.request_verify", body)


@blueprint.route("/drill")
class BackupDrill(MethodView):
    @blueprint.arguments(DrillSchema)
    @blueprint.response(202, EnqueuedSchema)
    @blueprint.raises(NotFound, Conflict, Unavailable)
    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Enqueue a drill: restore a backup into a scratch database and compare all tables."""
        return _enqueue(DRILL, "backup.request_drill", body)


@blueprint.route("/prune")
class BackupPrune(MethodView):
    @blueprint.arguments(PruneSchema)
    @blueprint.response(202, EnqueuedSchema)
    @blueprint.raises(Conflict, Unavailable)
    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Enqueue the deletion of backups that need not be kept, or a dry run of it."""
        return _enqueue(PRUNE_BACKUPS, "backup.request_prune", body)


def _enqueue(job: Job, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Enqueue the job, unless backups are not configured, the store is unavailable, or the backup does not exist."""
    with audited(actor=current_actor(), action=action, target=arguments.get("name"), details=arguments) as notes:
        try:
            store = open_backup_store(current_settings(), quick=True)
            if arguments.get("name"):
                Inventory.load(store).find(arguments["name"])
        except BackupsNotConfigured as error:
            raise Conflict(error.detail) from None
        except NoSuchBackup as error:
            raise NotFound(error.detail) from None
        except StorageUnavailable as error:
            raise Unavailable(error.detail) from error
        message_id = enqueue_confirmed(job.name, **arguments)
        notes["message_id"] = str(message_id)
    return {"message_id": message_id}
