"""The archive: what is bundled, and out again; legal holds."""

from typing import Any
from uuid import UUID

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import ArchiveDamaged, InvalidInput, Unavailable
from app.jobs import ask_for
from ops.accounts import people
from ops.api.reports import schema_of
from ops.api.requests import requester
from ops.api.schemas.archive import HOLDS, ArchiveRunsSchema, HoldCreation, HoldPage, HoldQuery
from ops.api.schemas.jobs import AskedSchema
from ops.archive import holds as legal
from ops.archive.plan import ArchivePlan, plan
from ops.archive.restore import Restored, restore_conversation, restore_run, restore_user
from ops.archive.status import ArchiveStatus, latest_runs, status
from ops.audit import audited
from ops.catalogue import RESTORE_ACCOUNT, UNDO_ARCHIVE

SECONDS = 10  # for counting

blueprint = Blueprint(
    "admin_archive",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/archive",
    description="Idle conversations in bundles, and legal holds, for operators",
)


@blueprint.route("/plan")
class ArchivePlanned(MethodView):
    @blueprint.response(200, schema_of(ArchivePlan))
    @blueprint.raises(InvalidInput)
    def get(self) -> ArchivePlan:
        """What a run would archive, counted for ten seconds at most; `complete` says whether that was enough"""
        return plan(seconds=SECONDS)


@blueprint.route("/status")
class ArchiveStands(MethodView):
    @blueprint.response(200, schema_of(ArchiveStatus))
    def get(self) -> ArchiveStatus:
        """What waits and for how long, what is bundled, and the latest runs"""
        return status(seconds=SECONDS)


@blueprint.route("/runs")
class ArchiveRuns(MethodView):
    @blueprint.response(200, ArchiveRunsSchema)
    def get(self) -> dict[str, Any]:
        """The latest runs, with what each has bundled; `POST /api/admin/jobs/archive.run/runs` begins one"""
        return {"items": latest_runs(limit=100)}


@blueprint.route("/runs/<uuid:run_id>/undo")
class UndoingRun(MethodView):
    @blueprint.response(202, AskedSchema)
    @blueprint.raises(Unavailable)
    def post(self, run_id: UUID) -> dict[str, Any]:
        """Take back what a run has bundled; a worker does it, and its report says what is restored"""
        with audited(by=requester(), action="archive.ask_undo", on=str(run_id)) as notes:
            planned = restore_run(run_id=run_id, dry_run=True)
            message_id = ask_for(UNDO_ARCHIVE.name, run_id=str(run_id))
            notes["message_id"], notes["conversations"] = str(message_id), planned.restored
        return {"message_id": message_id}


@blueprint.route("/conversations/<uuid:conversation_id>/restore")
class RestoringConversation(MethodView):
    @blueprint.response(200, schema_of(Restored))
    @blueprint.raises(ArchiveDamaged)
    def post(self, conversation_id: UUID) -> Restored:
        """Put a conversation's messages back into the live table"""
        with audited(by=requester(), action="archive.restore", on=str(conversation_id)):
            return restore_conversation(conversation_id=conversation_id)


@blueprint.route("/accounts/<uuid:account_id>/restore")
class RestoringAccount(MethodView):
    @blueprint.response(202, AskedSchema)
    @blueprint.raises(Unavailable)
    def post(self, account_id: UUID) -> dict[str, Any]:
        """Put all that an account has bundled back into the live table; a worker does it"""
        with audited(by=requester(), action="archive.ask_restore", on=str(account_id)) as notes:
            people.find(user_id=account_id)
            planned = restore_user(user_id=account_id, dry_run=True)
            message_id = ask_for(RESTORE_ACCOUNT.name, account_id=str(account_id))
            notes["message_id"], notes["conversations"] = str(message_id), planned.restored
        return {"message_id": message_id}


@blueprint.route("/holds")
class Holds(MethodView):
    @blueprint.arguments(HoldQuery, location="query")
    @blueprint.response(200, HoldPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """What is held, why, and who said so"""
        after = {"after": query["after"]} if query["after"] else {}
        rows = legal.holds(user_id=query["account_id"], limit=query["limit"] + 1, **after)
        return HOLDS.envelope(rows, query["limit"])

    @blueprint.arguments(HoldCreation)
    @blueprint.response(201, schema_of(legal.Holding))
    def post(self, body: dict[str, Any]) -> legal.Holding:
        """Hold a conversation, or all that an account has now: it can be neither deleted nor archived"""
        by, reason = requester(), body["reason"]
        on = str(body["conversation_id"] or body["account_id"])
        with audited(by=by, action="hold.add", on=on, details={"reason": reason}) as notes:
            if body["conversation_id"]:
                held = legal.hold_conversation(conversation_id=body["conversation_id"], reason=reason, by=by.name)
            else:
                held = legal.hold_user(user_id=body["account_id"], reason=reason, by=by.name)
            notes["held"] = held.held
            return held


@blueprint.route("/holds/<uuid:hold_id>")
class OneHold(MethodView):
    @blueprint.response(200, schema_of(legal.Lifted))
    def delete(self, hold_id: UUID) -> legal.Lifted:
        """Lift a hold"""
        with audited(by=requester(), action="hold.remove", on=str(hold_id)) as notes:
            lifted = legal.lift(hold_id=hold_id)
            notes["conversation"] = str(lifted.conversation_id)
            return lifted
