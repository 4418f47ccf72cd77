"""A turn told from what is stored: the events, as far as there are any, and else what they came to."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from app.errors import NotFound, error_of
from app.models.turn import TurnStatus
from app.repositories import turn_events, turns
from app.services import archives
from app.services.bundles import BundledMessage
from app.services.narration import DELTA
from app.services.running_turn import Outcome, ToldTurn
from app.services.turn_views import message_view, running_view, turn_view

_LOOKS = 2  # for an answer, in the live table and in a bundle: a conversation may be restored in between

_BATCHES = 32  # at a time: as objects, events take a hundred times what they take in a narration


def retell(connection: Connection, user_id: UUID, row: Row[Any]) -> ToldTurn:
    """The ended turn `row`, from its first event to its last."""
    turn = ToldTurn(user_id=user_id, id=row.id, conversation_id=row.conversation_id)
    tell_stored(connection, [turn])
    tell_end(connection, turn, row)
    return turn


def tell_stored(connection: Connection, told: list[ToldTurn]) -> None:
    """Say what has been stored beyond what each of the turns has said; one statement, unless there is very much."""
    by_id = {turn.id: turn for turn in told}
    full = True
    while full:  # each page ends beyond the one before
        parameters = {
            "user_ids": [turn.user_id for turn in told],
            "turn_ids": [turn.id for turn in told],
            "after": [turn.narration.last for turn in told],
            "batches": _BATCHES,
        }
        page = turn_events.NEWS.all(connection, parameters)
        for batch in page:
            by_id[batch.turn_id].told_attempt = batch.attempt
            narration = by_id[batch.turn_id].narration
            for sequence, kind, data in batch.events:
                if sequence > narration.last:  # two batches may overlap, where one was sent again with more in it
                    narration.say(kind, data, sequence=sequence)
        full = len(page) == _BATCHES


def tell_end(connection: Connection, turn: ToldTurn, row: Row[Any] | None) -> None:
    """Say what the ended turn `row` came to; None if it was deleted meanwhile.

    Readers who have heard none of it get the whole answer as one piece; the others get it with the message, whole too.
    Where they have heard of an earlier attempt only, the last one begins anew.
    """
    if row is None:
        gone = NotFound("The conversation of this turn has been deleted.")
        turn.end(Outcome(TurnStatus.FAILED, {}, None, gone), "turn.failed", {"turn": {"id": turn.id}})
        return
    stored = _answer(connection, turn, row) if row.answer_position is not None else None
    last = max(row.last_sequence or 0, turn.narration.last + 1, 4 if stored else 2)
    begun = {"turn": {**running_view(row), "status": TurnStatus.RUNNING.value}}
    whole = turn.narration.last <= 1
    if turn.narration.last == 0:
        turn.narration.say("turn.started", begun)
    elif turn.told_attempt not in (None, row.attempt):
        whole, to_come = True, 1 + (stored is not None) + bool(stored and stored.content)
        last = max(last, turn.narration.last + to_come + 1)
        turn.narration.say("turn.restarted", begun, sequence=last - to_come)  # as late as its own events leave room for
    shown = None
    if stored is not None:
        shown = message_view(row.conversation_id, stored.position, row.id, stored.created_at, stored._asdict())
        if whole and last > 3 and stored.content:
            turn.narration.say(DELTA, {"text": stored.content}, sequence=last - 2)
        if turn.narration.last < last - 1:
            turn.narration.say("message.completed", {"message": shown}, sequence=last - 1)
    view = turn_view(row)
    error = error_of(row.error["code"], row.error["detail"]) if row.error else None
    turn.end(Outcome(TurnStatus(row.status), view, shown, error), f"turn.{row.status}", {"turn": view}, sequence=last)


def _answer(connection: Connection, turn: ToldTurn, row: Row[Any]) -> Row[Any] | BundledMessage | None:
    """The last message of the ended turn, wherever it is; it tells `turn` the conversation's title, too."""
    key = {"user_id": turn.user_id, "conversation_id": row.conversation_id}
    for _ in range(_LOOKS):
        found = turns.ANSWER.one(connection, {**key, "position": row.answer_position})
        if found is None:
            return None
        turn.title = found.title
        if found.position is not None:
            return found
        bundle = archives.find(connection, **key)
        if bundle is not None:
            return archives.message_at(bundle, row.answer_position)
    return None
