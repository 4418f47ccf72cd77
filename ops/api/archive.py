"""The archive: plan, status, runs and restores; legal holds."""

from typing import Any
from uuid import UUID

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import ArchiveDamaged, InvalidInput, Unavailable
from app.jobs import enqueue_confirmed
from ops.api.protected_admins import (
    refuse_change_of_admin,
    refuse_change_of_admins_conversation,
    refuse_change_of_admins_hold,
)
from ops.api.reports import schema_of
from ops.api.requests import current_actor
from ops.api.schemas.archive import HOLDS, ArchiveRunsSchema, HoldCreation, HoldPage, HoldQuery
from ops.api.schemas.jobs import EnqueuedSchema
from ops.archive import holds as legal
from ops.archive.plan import ArchivePlan, plan
from ops.archive.restore import BundleRestoreReport, restore_conversation, restore_run, restore_user
from ops.archive.status import ArchiveStatus, latest_runs, status
from ops.catalogue.jobs import RESTORE_USER, UNDO_ARCHIVE
from ops.runs.audit import audited
from ops.users import users

COUNT_SECONDS = 10  # time limit for counting

blueprint = Blueprint(
    "admin_archive",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/archive",
    description="Archive and legal holds, for operators",
)


@blueprint.route("/plan")
class ArchivePreview(MethodView):
    @blueprint.response(200, schema_of(ArchivePlan))
    @blueprint.raises(InvalidInput)
    def get(self) -> ArchivePlan:
        """Show what a run would archive.

        Counting stops after ten seconds; `complete` is false then.
        """
        return plan(seconds=COUNT_SECONDS)


@blueprint.route("/status")
class ArchiveOverview(MethodView):
    @blueprint.response(200, schema_of(ArchiveStatus))
    def get(self) -> ArchiveStatus:
        """Show the backlog, the archived conversations and the latest runs."""
        return status(seconds=COUNT_SECONDS)


@blueprint.route("/runs")
class ArchiveRuns(MethodView):
    @blueprint.response(200, ArchiveRunsSchema)
    def get(self) -> dict[str, Any]:
        """List the latest runs; `POST /api/admin/jobs/archive.run/runs` starts one."""
        return {"items": latest_runs(limit=100)}


@blueprint.route("/runs/<uuid:run_id>/undo")
class ArchiveRunUndo(MethodView):
    @blueprint.response(202, EnqueuedSchema)
    @blueprint.raises(Unavailable)
    def post(self, run_id: UUID) -> dict[str, Any]:
        """Enqueue the restore of all conversations that a run archived."""
        with audited(actor=current_actor(), action="archive.request_undo", target=str(run_id)) as notes:
            planned = restore_run(run_id=run_id, dry_run=True)
            message_id = enqueue_confirmed(UNDO_ARCHIVE.name, run_id=str(run_id))
            notes["message_id"], notes["conversations"] = str(message_id), planned.restored
        return {"message_id": message_id}


@blueprint.route("/conversations/<uuid:conversation_id>/restore")
class ConversationRestore(MethodView):
    @blueprint.response(200, schema_of(BundleRestoreReport))
    @blueprint.raises(ArchiveDamaged)
    def post(self, conversation_id: UUID) -> BundleRestoreReport:
        """Restore an archived conversation."""
        with audited(actor=current_actor(), action="archive.restore", target=str(conversation_id)):
            refuse_change_of_admins_conversation(conversation_id)
            return restore_conversation(conversation_id=conversation_id)


@blueprint.route("/users/<uuid:user_id>/restore")
class UserRestore(MethodView):
    @blueprint.response(202, EnqueuedSchema)
    @blueprint.raises(Unavailable)
    def post(self, user_id: UUID) -> dict[str, Any]:
        """Enqueue the restore of all archived conversations of a user."""
        with audited(actor=current_actor(), action="archive.request_restore", target=str(user_id)) as notes:
            users.get(user_id=user_id)
            refuse_change_of_admin(user_id)
            planned = restore_user(user_id=user_id, dry_run=True)
            message_id = enqueue_confirmed(RESTORE_USER.name, user_id=str(user_id))
            notes["message_id"], notes["conversations"] = str(message_id), planned.restored
        return {"message_id": message_id}


@blueprint.route("/holds")
class Holds(MethodView):
    @blueprint.arguments(HoldQuery, location="query")
    @blueprint.response(200, HoldPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List the holds with their reasons and authors."""
        after = {"after": query["after"]} if query["after"] else {}
        rows = legal.list_holds(user_id=query["user_id"], limit=query["limit"] + 1, **after)
        return HOLDS.envelope(rows, query["limit"])

    @blueprint.arguments(HoldCreation)
    @blueprint.response(201, schema_of(legal.PlacedHolds))
    def post(self, body: dict[str, Any]) -> legal.PlacedHolds:
        """Hold a conversation, or all current conversations of a user.

        Held conversations cannot be deleted or archived.
        """
        by, reason = current_actor(), body["reason"]
        target = str(body["conversation_id"] or body["user_id"])
        with audited(actor=by, action="hold.add", target=target, details={"reason": reason}) as notes:
            if body["conversation_id"]:
                refuse_change_of_admins_conversation(body["conversation_id"])
                held = legal.hold_conversation(conversation_id=body["conversation_id"], reason=reason, by=by.name)
            else:
                refuse_change_of_admin(body["user_id"])
                held = legal.hold_user(user_id=body["user_id"], reason=reason, by=by.name)
            notes["held"] = held.held
            return held


@blueprint.route("/holds/<uuid:hold_id>")
class Hold(MethodView):
    @blueprint.response(200, schema_of(legal.LiftedHold))
    def delete(self, hold_id: UUID) -> legal.LiftedHold:
        """Lift a hold."""
        with audited(actor=current_actor(), action="hold.remove", target=str(hold_id)) as notes:
            refuse_change_of_admins_hold(hold_id)
            lifted = legal.lift_hold(hold_id=hold_id)
            notes["conversation"] = str(lifted.conversation_id)
            return lifted
