"""The database as it is just now, and what took its time: metadata only, statements by name and never by text."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import Conflict
from ops.api.reports import schema_of
from ops.api.schemas.database import GrowthQuery, SlowQuery
from ops.checks.pool import PoolReport, read_pool
from ops.checks.probe import Probe
from ops.checks.sessions import LockReport, read_locks
from ops.doctor import probing
from ops.figures.growth import GrowthReport, growth
from ops.figures.slow import SlowReport, slow
from ops.findings import CannotJudge

blueprint = Blueprint(
    "admin_database",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/database",
    description="The database, for operators",
)


@blueprint.route("/slow")
class Slow(MethodView):
    @blueprint.arguments(SlowQuery, location="query")
    @blueprint.response(200, schema_of(SlowReport))
    @blueprint.raises(Conflict)
    def get(self, query: dict[str, Any]) -> SlowReport:
        """What took the database's time, by the names of Parley's statements"""
        with _probe() as probe:
            now = probe.now
            return slow(probe.connection, since=now - timedelta(hours=query["hours"]), until=now)


@blueprint.route("/growth")
class Growth(MethodView):
    @blueprint.arguments(GrowthQuery, location="query")
    @blueprint.response(200, schema_of(GrowthReport))
    @blueprint.raises(Conflict)
    def get(self, query: dict[str, Any]) -> GrowthReport:
        """How much each table grew"""
        with _probe() as probe:
            now = probe.now
            return growth(probe.connection, since=now - timedelta(weeks=query["weeks"]), now=now)


@blueprint.route("/locks")
class Locks(MethodView):
    @blueprint.response(200, schema_of(LockReport))
    @blueprint.raises(Conflict)
    def get(self) -> LockReport:
        """Who waits for a lock, and for whom"""
        with _probe() as probe:
            return read_locks(probe)


@blueprint.route("/pool")
class Pool(MethodView):
    @blueprint.response(200, schema_of(PoolReport))
    @blueprint.raises(Conflict)
    def get(self) -> PoolReport:
        """Who is connected, how many there may be, and how many the settings allow"""
        with _probe() as probe:
            return read_pool(probe)


@contextmanager
def _probe() -> Iterator[Probe]:
    """What cannot be known is told as such."""
    try:
        with probing() as probe:
            yield probe
    except CannotJudge as error:
        raise Conflict(error.reason + (f" {error.remedy}" if error.remedy else "")) from None
