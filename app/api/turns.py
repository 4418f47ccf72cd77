"""Turn status, cancellation and event stream."""

from typing import Any
from uuid import UUID

from flask import Response
from flask.views import MethodView

from app.api.access import Access, caller
from app.api.answers import answer, documented
from app.api.blueprint import Blueprint
from app.api.in_flight import hold_stream
from app.api.schemas.chat import ToolApprovalsSchema
from app.api.schemas.events import ANY_EVENT
from app.api.schemas.turns import LAST_EVENT_ID, TicketSchema, TurnSchema
from app.api.streams import event_stream, last_event_id
from app.container import services
from app.enums import KeyScope
from app.errors import ArchiveDamaged, Overloaded, TooManyStreams, TurnEnded
from app.services import tickets

blueprint = Blueprint(
    "turns",
    __name__,
    access=Access.USER,
    scope=KeyScope.CHAT,
    url_prefix="/api/turns",
    description="Turn status, cancellation and event stream",
)
events_blueprint = Blueprint(
    "turn_events",
    __name__,
    access=Access.TICKET,
    streams=True,
    scope=KeyScope.CHAT,
    url_prefix="/api/turns",
    description="Event stream of a turn",
)


@blueprint.route("/<uuid:turn_id>")
class Turn(MethodView):
    @blueprint.response(200, TurnSchema)
    def get(self, turn_id: UUID) -> dict[str, Any]:
        """Get the current state of a turn."""
        return services().turns.get(caller(), turn_id)


@blueprint.route("/<uuid:turn_id>/cancel")
class TurnCancel(MethodView):
    @blueprint.response(202, TurnSchema)
    def post(self, turn_id: UUID) -> dict[str, Any]:
        """Cancel a running turn and keep the answer so far; a turn that has ended is not changed."""
        return services().turns.cancel(caller(), turn_id)


@blueprint.route("/<uuid:turn_id>/tool_approvals")
class TurnToolApprovals(MethodView):
    @blueprint.arguments(ToolApprovalsSchema)
    @documented(blueprint)
    def post(self, body: dict[str, Any], turn_id: UUID) -> Response:
        """Approve or decline the calls of tools with which a turn has ended, and get the answer.

        The turn has the `finish_reason` `tool_approval`, and its message the calls. This begins a new turn, which makes
        the approved calls; all other calls that need approval are declined. A new chat message declines all of them.
        """
        approved = body.pop("approved")
        return answer({"message": "", **body}, lambda command: services().turns.approve(command, turn_id, approved))


@blueprint.route("/<uuid:turn_id>/ticket")
class TurnTicket(MethodView):
    @blueprint.response(200, TicketSchema)
    @blueprint.raises(TurnEnded)
    def post(self, turn_id: UUID) -> dict[str, str]:
        """Get a ticket with which an `EventSource` reads the events of this turn.

        Send it as the parameter `ticket` of `GET /api/turns/{turn_id}/events`, as often as needed. It ends with your
        session or API key, and five minutes after the end of the turn.
        """
        return {"ticket": tickets.issue(caller(), turn_id)}


@events_blueprint.route("/<uuid:turn_id>/events")
class TurnEvents(MethodView):
    @events_blueprint.response(
        200,
        ANY_EVENT,
        content_type="text/event-stream",
        description="The events after `Last-Event-ID`, until the turn, or the session or API key of the caller, ends.",
    )
    @events_blueprint.alt_response(
        204, description="The turn has ended and the reader has its last event. `EventSource` does not reconnect."
    )
    @events_blueprint.raises(ArchiveDamaged, TooManyStreams, Overloaded)
    @events_blueprint.doc(parameters=[LAST_EVENT_ID])
    def get(self, turn_id: UUID) -> Response:
        """Stream the events of a turn after `Last-Event-ID`; a turn that has ended is replayed."""
        hold_stream()
        subscription = services().turns.subscribe(caller(), turn_id, last_event_id())
        return Response(status=204) if subscription.is_complete else event_stream(subscription)
