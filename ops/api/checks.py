"""What the doctor last found."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import NotFound
from ops.api.schemas.checks import ExaminationSchema
from ops.catalogue import EXAMINE
from ops.history import history

blueprint = Blueprint(
    "admin_checks",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/checks",
    description="What the doctor found, for operators",
)


@blueprint.route("")
class Checks(MethodView):
    @blueprint.response(200, ExaminationSchema)
    @blueprint.raises(NotFound)
    def get(self) -> dict[str, Any]:
        """The last examination; `POST /api/admin/jobs/doctor.examine/runs` asks for a new one"""
        for run in history(job=EXAMINE.name, status="succeeded", limit=1):
            return {**(run.report or {}), "examined_at": run.started_at}
        raise NotFound("Nothing was examined yet; `POST /api/admin/jobs/doctor.examine/runs` asks for it.")
