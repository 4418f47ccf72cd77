"""The same request a second time: join the turn while it runs, tell a completed one again, run a failed one again."""

from typing import Any

from sqlalchemy import Connection, Row

from app.config import Chat
from app.errors import ConversationBusy, ConversationMovedOn, NotFound
from app.models.turn import TurnStatus
from app.repositories import turns as sql
from app.services.begin import Begun, ChatCommand, Prior, begin_parameters, begun_from, close_stale
from app.services.running_turn import Outcome, RunningTurn
from app.services.turn_views import message_view, running_view, turn_view


def again(
    connection: Connection, command: ChatCommand, prior: Prior, settings: Chat, default_provider: str
) -> Begun | RunningTurn:
    """What to do with the turn that `command`'s idempotency key already names; `connection` is in AUTOCOMMIT.

    A new attempt is `Begun`; a completed turn comes back as it ended. Raises `ConversationBusy` while another process
    answers it, `ConversationMovedOn` if it failed and later messages exist.
    """
    parameters = {**begin_parameters(command, settings, default_provider), "turn_id": prior.turn_id}
    row = _turn(connection, parameters)
    parameters["conversation_id"] = row.conversation_id
    if row.status == TurnStatus.RUNNING and row.stale:
        close_stale(connection, parameters, row.id, row.attempt)
        row = _turn(connection, parameters)
    if row.status == TurnStatus.RUNNING:
        raise ConversationBusy("This same request is being answered; ask again for its answer.", retry_after=1)
    if row.status == TurnStatus.COMPLETED:
        return _told_again(connection, command, row)
    place = {"position": row.position, "next_position": (row.answer_position or row.position) + 1}
    begun = sql.called(sql.BEGIN_AGAIN, by_key=command.caller.key is not None).one(connection, {**parameters, **place})
    if begun is None:
        raise ConversationMovedOn
    return begun_from(connection, command.message, parameters, begun)


def _turn(connection: Connection, parameters: dict[str, Any]) -> Row[Any]:
    row = sql.GET.one(connection, parameters)
    if row is None:
        raise NotFound("The conversation of this request has been deleted.")
    return row


def _told_again(connection: Connection, command: ChatCommand, row: Row[Any]) -> RunningTurn:
    place = {"user_id": command.caller.user_id, "conversation_id": row.conversation_id, "position": row.answer_position}
    message = sql.ANSWER.one(connection, place)
    turn = RunningTurn(
        user_id=command.caller.user_id,
        id=row.id,
        conversation_id=row.conversation_id,
        attempt=row.attempt,
        position=row.position,
        provider=row.provider,
        model=row.model,
        started_at=row.started_at,
        title=message.title if message else None,
    )
    turn.say("turn.started", {"turn": running_view(turn)})
    shown = None
    if message is not None:
        shown = message_view(row.conversation_id, message.position, row.id, message.created_at, message._asdict())
        turn.say("message.delta", {"text": message.content})
        turn.say("message.completed", {"message": shown})
    view = turn_view(row)
    turn.end(Outcome(TurnStatus.COMPLETED, view, shown), "turn.completed", {"turn": view})
    return turn
