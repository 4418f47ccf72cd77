"""The response of a request that begins a turn: the answer as JSON or as a stream."""

from collections.abc import Callable
from typing import Any

from flask import Response, request

from app.api.access import caller, record_key_use
from app.api.blueprint import Blueprint, View
from app.api.history_bound import check_history
from app.api.idempotency import REPLAYED, sent_key
from app.api.in_flight import hold_stream
from app.api.openapi.problems import tree
from app.api.schemas.chat import IDEMPOTENCY_KEY, ChatAnswerSchema
from app.api.schemas.events import ANY_EVENT
from app.api.schemas.turns import LAST_EVENT_ID
from app.api.streams import event_stream, last_event_id, prefers_stream
from app.encoding import encode_json
from app.errors import (
    ArchiveDamaged,
    ConversationAdvanced,
    ConversationBusy,
    IdempotencyMismatch,
    NotFound,
    ProviderError,
    QuotaExceeded,
    StorageFull,
    StorageLimitReached,
    TooManyStreams,
    TooManyTurns,
    TurnFenced,
    TurnInterrupted,
)
from app.turns.attempt import ChatCommand
from app.turns.stream import RunningTurn, TurnStream
from app.turns.subscription import Subscription


def documented(blueprint: Blueprint) -> Callable[[View], View]:
    """Return a decorator that declares the responses of such a view for the API's description."""
    decorators = (
        blueprint.raises(
            NotFound,
            ConversationBusy,
            ConversationAdvanced,
            TurnFenced,
            IdempotencyMismatch,
            TooManyTurns,
            TooManyStreams,
            QuotaExceeded,
            StorageLimitReached,
            StorageFull,
            TurnInterrupted,
            ArchiveDamaged,
            *tree(ProviderError),
        ),
        blueprint.doc(parameters=[IDEMPOTENCY_KEY, LAST_EVENT_ID]),
        blueprint.alt_response(
            200,
            schema=ANY_EVENT,
            content_type="text/event-stream",
            description="The answer, complete or as a stream of events that ends with the turn.",
            headers=REPLAYED,
            success=True,
        ),
        blueprint.response(200, ChatAnswerSchema, headers=REPLAYED),
    )

    def decorate(view: View) -> View:
        for decorator in decorators:
            view = decorator(view)
        return view

    return decorate


def answer(body: dict[str, Any], start: Callable[[ChatCommand], Subscription]) -> Response:
    """Call `start` with the command of a request, and respond with the answer. `body` has its fields."""
    is_stream = body.pop("stream")
    if is_stream is None:
        is_stream = prefers_stream(request.accept_mimetypes)
    check_history(body["options"].get("history"), "options.history")
    sent_id = last_event_id()  # validated for JSON responses too, which do not use it
    after = sent_id if is_stream else 0
    hold_stream()  # a JSON response waits as long as a stream
    subscription = start(ChatCommand(caller(), **body, idempotency_key=sent_key(), is_stream=is_stream, after=after))
    turn = subscription.stream
    is_replayed = turn.outcome is not None and not isinstance(turn, RunningTurn)
    record_key_use()
    response = event_stream(subscription) if is_stream else _as_json(turn)
    if is_replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _as_json(turn: TurnStream) -> Response:
    outcome = turn.wait()
    if outcome.error is not None:
        raise outcome.error.exception({"turn_id": str(turn.id), "conversation_id": str(turn.conversation_id)})
    body = {
        "turn": outcome.turn,
        "conversation": {"id": turn.conversation_id, "title": turn.title},
        "message": outcome.answer,
        "usage": outcome.turn["usage"],
    }
    return Response(encode_json(body), content_type="application/json")
