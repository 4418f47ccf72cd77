"""The last report of the doctor, and acknowledged findings."""

from typing import Any
from uuid import UUID

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import InvalidInput, NotFound
from ops.api.requests import current_actor
from ops.api.schemas.checks import (
    AcknowledgementCreation,
    AcknowledgementSchema,
    AcknowledgementsSchema,
    DoctorReportSchema,
)
from ops.catalogue.jobs import RUN_DOCTOR
from ops.checks.findings import Acknowledgement
from ops.doctor.acknowledgements import acknowledge, list_acknowledgements, withdraw
from ops.doctor.last_report import last_findings
from ops.runs.audit import audited
from ops.runs.history import recent_runs

blueprint = Blueprint(
    "admin_checks",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/checks",
    description="Report of the doctor, for operators",
)


@blueprint.route("")
class Checks(MethodView):
    @blueprint.response(200, DoctorReportSchema)
    @blueprint.raises(NotFound)
    def get(self) -> dict[str, Any]:
        """Get the last report of the doctor; `POST /api/admin/jobs/doctor.run/runs` requests a new one."""
        for run in recent_runs(job=RUN_DOCTOR.name, status="succeeded", limit=1):
            return {**(run.report or {}), "checked_at": run.started_at}
        raise NotFound("There is no report yet; `POST /api/admin/jobs/doctor.run/runs` requests one.")


@blueprint.route("/acknowledgements")
class Acknowledgements(MethodView):
    @blueprint.response(200, AcknowledgementsSchema)
    def get(self) -> dict[str, Any]:
        """List the acknowledged findings, ended ones included."""
        return {"items": list_acknowledgements()}

    @blueprint.arguments(AcknowledgementCreation)
    @blueprint.response(201, AcknowledgementSchema)
    @blueprint.raises(InvalidInput, NotFound)
    def post(self, body: dict[str, Any]) -> Acknowledgement:
        """Acknowledge a finding of the last report; repeating it replaces reason and end.

        The finding stays in reports and does not raise the level of its check until the end date.
        """
        by, until = current_actor(), body["until"]
        details = {"object": body["object"], "reason": body["reason"], "until": until.isoformat()}
        with audited(actor=by, action="finding.acknowledge", target=body["check"], details=details) as notes:
            accepted = acknowledge(
                check=body["check"],
                findings=last_findings(body["check"]),
                of=body["object"],
                reason=body["reason"],
                until=until,
                by=by.name,
            )
            notes["id"], notes["object"], notes["level"] = str(accepted.id), accepted.object, accepted.level
            return accepted


@blueprint.route("/acknowledgements/<uuid:acknowledgement_id>")
class AcknowledgementItem(MethodView):
    @blueprint.response(200, AcknowledgementSchema)
    @blueprint.raises(NotFound)
    def delete(self, acknowledgement_id: UUID) -> Acknowledgement:
        """End an acknowledgement now: its finding counts again."""
        target = str(acknowledgement_id)
        with audited(actor=current_actor(), action="finding.withdraw", target=target) as notes:
            ended = withdraw(acknowledgement_id=acknowledgement_id)
            notes["check"], notes["object"] = ended.check, ended.object
            return ended
