"""Chat: say something, get an answer, at once or as a stream."""

from typing import Any

import orjson
from flask import Response, request
from flask.views import MethodView

from app.api.access import Access, caller, note_use
from app.api.blueprint import Blueprint, View
from app.api.idempotency import REPLAYED, sent_key
from app.api.openapi.problems import tree
from app.api.schemas.chat import IDEMPOTENCY_KEY, ChatAnswerSchema, ChatRequestSchema
from app.api.schemas.events import ANY_EVENT
from app.api.streams import event_stream
from app.errors import (
    ArchiveDamaged,
    ConversationBusy,
    ConversationMovedOn,
    IdempotencyMismatch,
    InvalidInput,
    NotAllowed,
    NotFound,
    ProviderError,
    QuotaExceeded,
    TooManyTurns,
    TurnFenced,
    TurnInterrupted,
)
from app.services.begin import ChatCommand
from app.services.container import services
from app.services.running_turn import RunningTurn, ToldTurn

# TURN: the session is checked by the statement that begins the turn, not by a query of its own.
blueprint = Blueprint("chat", __name__, access=Access.TURN, description="Say something and get an answer")


_REQUEST = ChatRequestSchema()  # made once: a class would be made anew for each request


def _documented(view: View) -> View:
    """What both ways to chat answer, for the API's description."""
    for decorate in (
        blueprint.raises(
            NotFound,
            ConversationBusy,
            ConversationMovedOn,
            TurnFenced,
            IdempotencyMismatch,
            TooManyTurns,
            QuotaExceeded,
            TurnInterrupted,
            ArchiveDamaged,
            *tree(ProviderError),
        ),
        blueprint.doc(parameters=[IDEMPOTENCY_KEY]),
        blueprint.alt_response(
            200,
            schema=ANY_EVENT,
            content_type="text/event-stream",
            description="The answer: whole, or as a stream of events that ends with the turn.",
            headers=REPLAYED,
            success=True,
        ),
        blueprint.response(200, ChatAnswerSchema, headers=REPLAYED),
    ):
        view = decorate(view)
    return view


@blueprint.route("/api/chat")
class Chat(MethodView):
    @blueprint.arguments(_REQUEST)
    @_documented
    def post(self, body: dict[str, Any]) -> Response:
        """Send a message and get its answer, as JSON or as server-sent events"""
        return _chat(body)


@blueprint.route("/api/<string:user_id>/chat")
class UserChat(MethodView):
    @blueprint.arguments(_REQUEST)
    @_documented
    def post(self, body: dict[str, Any], user_id: str) -> Response:
        """The same, with the user named in the path: it must be the token's"""
        if user_id.lower() != str(caller().user_id):
            raise NotAllowed("The path names another user than the token; use your own id or `POST /api/chat`.")
        return _chat(body)


def _chat(body: dict[str, Any]) -> Response:
    longest = services().settings.chat.max_user_chars
    if len(body["message"]) > longest:
        raise InvalidInput(fields={"message": [f"Longer than {longest} characters."]})
    stream = body.pop("stream") or "text/event-stream" in request.accept_mimetypes.values()
    turn = services().turns.start(ChatCommand(caller(), **body, idempotency_key=sent_key()))
    told_again = turn.outcome is not None and not isinstance(turn, RunningTurn)
    note_use()
    response = event_stream(services().turns.listen(turn)) if stream else _answer(turn)
    if told_again:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _answer(turn: ToldTurn) -> Response:
    outcome = turn.wait()
    if outcome.error is not None:
        outcome.error.about = {"turn_id": str(turn.id), "conversation_id": str(turn.conversation_id)}
        raise outcome.error
    body = {
        "turn": outcome.turn,
        "conversation": {"id": turn.conversation_id, "title": turn.title},
        "message": outcome.answer,
        "usage": outcome.turn["usage"],
    }
    return Response(orjson.dumps(body), content_type="application/json")
