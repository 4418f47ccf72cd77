"""Statements, sizes, growth, locks and connections of the database. Statements appear by name, never by text."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import Conflict
from ops.api.reports import schema_of
from ops.api.requests import current_actor
from ops.api.schemas.database import GrowthQuery, SessionEndSchema, SlowQuery
from ops.checks.context import CheckContext, open_check_context
from ops.doctor.checks.pool import PoolReport, read_pool
from ops.doctor.session_end import EndedSession, end_session, find_session_to_end
from ops.doctor.sessions import LockReport, read_locks
from ops.errors import UnknownState
from ops.runs.audit import audited
from ops.stats.growth import GrowthReport, table_growth
from ops.stats.sizes import SizesReport, read_sizes
from ops.stats.slow import SlowReport, slow_statements

blueprint = Blueprint(
    "admin_database",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/database",
    description="State of the database, for operators",
)


@blueprint.route("/slow")
class Slow(MethodView):
    @blueprint.arguments(SlowQuery, location="query")
    @blueprint.response(200, schema_of(SlowReport))
    @blueprint.raises(Conflict)
    def get(self, query: dict[str, Any]) -> SlowReport:
        """List the statements that take the most time."""
        with _context() as context:
            now = context.now
            return slow_statements(context.connection, since=now - timedelta(hours=query["hours"]), until=now)


@blueprint.route("/growth")
class Growth(MethodView):
    @blueprint.arguments(GrowthQuery, location="query")
    @blueprint.response(200, schema_of(GrowthReport))
    @blueprint.raises(Conflict)
    def get(self, query: dict[str, Any]) -> GrowthReport:
        """Show the growth of tables."""
        with _context() as context:
            now = context.now
            return table_growth(context.connection, since=now - timedelta(weeks=query["weeks"]), now=now)


@blueprint.route("/sizes")
class Sizes(MethodView):
    @blueprint.response(200, schema_of(SizesReport))
    @blueprint.raises(Conflict)
    def get(self) -> SizesReport:
        """Show the present sizes of tables and indexes."""
        with _context() as context:
            return read_sizes(context.connection)


@blueprint.route("/locks")
class Locks(MethodView):
    @blueprint.response(200, schema_of(LockReport))
    @blueprint.raises(Conflict)
    def get(self) -> LockReport:
        """List the sessions that wait for locks, and their blockers."""
        with _context() as context:
            return read_locks(context)


@blueprint.route("/sessions/end")
class SessionEnd(MethodView):
    @blueprint.arguments(SessionEndSchema)
    @blueprint.response(200, schema_of(EndedSession))
    @blueprint.raises(Conflict)
    def post(self, body: dict[str, Any]) -> EndedSession:
        """End a session of the database; its open transaction is rolled back.

        Sessions of other databases, of superusers and of the server itself are refused.
        """
        pid = body["pid"]
        with audited(actor=current_actor(), action="session.end", target=str(pid)) as notes:
            found = find_session_to_end(pid)
            notes["application"], notes["role"] = found.session.application, found.session.role
            notes["statement"] = found.session.statement
            ended = end_session(found)
            notes["ended"] = ended.ended
        return ended


@blueprint.route("/pool")
class Pool(MethodView):
    @blueprint.response(200, schema_of(PoolReport))
    @blueprint.raises(Conflict)
    def get(self) -> PoolReport:
        """List the connections by application, with the limits."""
        with _context() as context:
            return read_pool(context)


@contextmanager
def _context() -> Iterator[CheckContext]:
    """Open a check context; an unknown state becomes a `Conflict`."""
    try:
        with open_check_context() as context:
            yield context
    except UnknownState as error:
        raise Conflict(error.reason + (f" {error.remedy}" if error.remedy else "")) from None
