"""Turns: what became of a question."""

from typing import Any
from uuid import UUID

from flask import Response, request
from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.schemas.chat import LAST_EVENT_ID, TurnSchema
from app.api.schemas.events import ANY_EVENT
from app.api.streams import event_stream
from app.errors import ArchiveDamaged, InvalidInput
from app.models import KeyScope
from app.services.container import services

blueprint = Blueprint(
    "turns",
    __name__,
    access=Access.USER,
    scope=KeyScope.CHAT,
    url_prefix="/api/turns",
    description="What became of a turn",
)


@blueprint.route("/<uuid:turn_id>")
class Turn(MethodView):
    @blueprint.response(200, TurnSchema)
    def get(self, turn_id: UUID) -> dict[str, Any]:
        """A turn as it stands"""
        return services().turns.get(caller(), turn_id)


@blueprint.route("/<uuid:turn_id>/cancel")
class TurnCancel(MethodView):
    @blueprint.response(202, TurnSchema)
    def post(self, turn_id: UUID) -> dict[str, Any]:
        """Stop a running turn, keeping what there is of its answer; a turn that has ended stays as it is"""
        return services().turns.cancel(caller(), turn_id)


@blueprint.route("/<uuid:turn_id>/events")
class TurnEvents(MethodView):
    @blueprint.response(200, ANY_EVENT, content_type="text/event-stream")
    @blueprint.raises(ArchiveDamaged)
    @blueprint.doc(parameters=[LAST_EVENT_ID])
    def get(self, turn_id: UUID) -> Response:
        """What a turn says beyond the `Last-Event-ID`, as server-sent events: live, or again once it has ended"""
        after = _last_event_id()
        return event_stream(services().turns.follow(caller(), turn_id), after)


def _last_event_id() -> int:
    sent = request.headers.get("Last-Event-ID", "").strip() or "0"
    if not (sent.isascii() and sent.isdigit() and len(sent) <= 10):
        raise InvalidInput("The Last-Event-ID must be the id of an event of this turn: a whole number.")
    return int(sent)
