"""The caller's sessions: one per login."""

from typing import Any
from uuid import UUID

from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.clients import current_client
from app.api.schemas.sessions import SESSIONS, SessionPage, SessionQuery
from app.services import own_sessions

blueprint = Blueprint(
    "sessions", __name__, access=Access.SESSION, url_prefix="/api/auth/sessions", description="The caller's sessions"
)


@blueprint.route("")
class Sessions(MethodView):
    @blueprint.arguments(SessionQuery, location="query")
    @blueprint.response(200, SessionPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List your sessions that have not ended, the newest login first."""
        return SESSIONS.envelope(own_sessions.page(caller(), **query), query["limit"])

    @blueprint.response(204)
    def delete(self) -> None:
        """End all your sessions but this one; API keys stay valid.

        Their tokens are invalid at once, and their open streams end within about a second. Running turns continue.
        """
        own_sessions.end_others(caller(), current_client())


@blueprint.route("/<uuid:session_id>")
class OneSession(MethodView):
    @blueprint.response(204)
    def delete(self, session_id: UUID) -> None:
        """End one of your sessions, which may be this one.

        Its tokens are invalid at once, and its open streams end within about a second. Running turns continue.
        """
        own_sessions.end(caller(), session_id, current_client())
