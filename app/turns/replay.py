"""Replay of a turn's event stream from the database: the stored events, then the end from the turn and its answer.

A reader continues with the stored events if they lead from its place to the end of the answer without a gap. If they do
not, because they were purged or never stored, `turn.restarted` makes the reader discard its text, and one delta has the
complete answer, after the calls of tools and their results. In both cases the concatenated deltas since the last result
are the stored answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from app.enums import MessageRole, TurnStatus
from app.errors import NotFound
from app.repositories import turn_events, turns
from app.services import archives
from app.services.bundles import Bundle, BundledMessage
from app.turns.event_buffer import COMPLETED, DELTA, RESTARTED, STARTED, TurnEventBuffer
from app.turns.rounds import events_of_rounds, last_rounds
from app.turns.stream import Outcome, TurnError, TurnStream
from app.turns.subscription import Subscription
from app.turns.views import message_view, started_view, turn_view

_MAX_READS = 2  # of an answer, because the conversation may leave its bundle after the first read of the live table

_MAX_BATCHES = 32  # per statement, because unpacked events take a hundred times the memory of packed ones


_Events = list[tuple[str, dict[str, Any]]]  # kind and data


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a turn: its last event has the sequence `sequence`, and `message` is the view of its answer.

    `body` are the events that stand for the rounds with tools, and for the text of the answer.
    """

    sequence: int
    message: dict[str, Any] | None
    body: _Events

    @property
    def last_delta(self) -> int:
        """The sequence of the last event before the end: a delta, or the event that started the attempt."""
        return self.sequence - (2 if self.message else 1)

    @property
    def first(self) -> int:
        """The sequence of the first event of the end, if it contains the body."""
        return self.sequence - len(self.body) - (1 if self.message else 0)

    def follows(self, turn: TurnStream) -> bool:
        """Return whether `turn` has all events before the end."""
        return turn.events.last_sequence >= self.last_delta and not turn.has_gap


def replay(connection: Connection, user_id: UUID, row: Row[Any], after: int = 0) -> Subscription:
    """Return the stream of the ended turn `row` for a reader that has the events up to `after`.

    Raises `ArchiveDamaged`.
    """
    turn = TurnStream(user_id=user_id, id=row.id, conversation_id=row.conversation_id, events=TurnEventBuffer(after))
    end = _read_end(connection, turn, row)
    if after >= end.sequence:  # the reader has all events
        turn.events = TurnEventBuffer()
        _append_end(turn, row, end, body=[])
        return Subscription(turn, after)
    if after < end.last_delta:
        replay_stored_events(connection, [turn], until=end.last_delta)
    if end.follows(turn):
        _append_end(turn, row, end, body=[])
        return Subscription(turn, after)
    opening = {0: STARTED, 1: None}.get(after, RESTARTED)  # the first event is `turn.started`; later ones have text
    if opening == RESTARTED:
        after = max(0, min(after, end.first - 2))
    turn.events = TurnEventBuffer(after)
    if opening is not None:
        turn.events.append(opening, started_view(row, turn.title))
    _append_end(turn, row, end, body=end.body)
    return Subscription(turn, after)


def replay_stored_events(connection: Connection, streams: list[TurnStream], *, until: int | None = None) -> None:
    """Append the stored events that the streams do not have yet, up to the sequence `until`.

    This takes one statement, unless there are many events.
    """
    by_id = {turn.id: turn for turn in streams}
    full = True
    while full:
        parameters = {
            "user_ids": [turn.user_id for turn in streams],
            "turn_ids": [turn.id for turn in streams],
            "after": [turn.events.last_sequence for turn in streams],
            "batches": _MAX_BATCHES,
        }
        page = turn_events.READ_AFTER.all(connection, parameters)
        for batch in page:
            turn = by_id[batch.turn_id]
            for sequence, kind, data in batch.events:
                if until is not None and sequence > until:
                    return  # events of an attempt that began after `until` was read
                _append_stored(turn, sequence, kind, data)
        full = len(page) == _MAX_BATCHES


def replay_end(connection: Connection, turn: TurnStream, row: Row[Any] | None) -> None:
    """End the stream of the turn `row`, which several readers share. `row` is None if the turn was deleted.

    Raises `ArchiveDamaged`.
    """
    if row is None:
        deleted = TurnError.of(NotFound("The conversation of this turn has been deleted."))
        turn.end(Outcome(TurnStatus.FAILED, {}, None, deleted), "turn.failed", {"turn": {"id": turn.id}})
        return
    end = _read_end(connection, turn, row)
    is_complete = end.follows(turn)
    if not is_complete:
        started = started_view(row, turn.title)
        if turn.events.last_sequence == 0:
            turn.events.append(STARTED, started)
        _append(turn, RESTARTED, started, end.first - 1)
    _append_end(turn, row, end, body=[] if is_complete else end.body)


def _append_stored(turn: TurnStream, sequence: int, kind: str, data: dict[str, Any]) -> None:
    last = turn.events.last_sequence
    if sequence > last:  # a batch that was sent twice may overlap the one before
        is_opening = kind in (STARTED, RESTARTED)
        turn.has_gap = not is_opening and (turn.has_gap or sequence > last + 1)
        turn.events.append(kind, data, sequence=sequence)


def _append_end(turn: TurnStream, row: Row[Any], end: _End, *, body: _Events) -> None:
    """Append `body`, and the events that end the turn."""
    for sequence, (kind, data) in enumerate(body, end.first):
        _append(turn, kind, data, sequence)
    if end.message is not None and turn.events.last_sequence < end.sequence - 1:
        _append(turn, COMPLETED, {"message": end.message}, end.sequence - 1)
    view = turn_view(row)
    error = TurnError(row.error["code"], row.error["detail"]) if row.error else None
    turn.end(
        Outcome(TurnStatus(row.status), view, end.message, error),
        f"turn.{row.status}",
        {"turn": view},
        sequence=max(end.sequence, turn.events.last_sequence + 1),
    )


def _append(turn: TurnStream, kind: str, data: dict[str, Any], sequence: int) -> None:
    turn.events.append(kind, data, sequence=max(sequence, turn.events.last_sequence + 1))


def _read_end(connection: Connection, turn: TurnStream, row: Row[Any]) -> _End:
    answer, before = _read_answer(connection, turn, row)
    if answer is None:
        return _End(max(row.last_sequence or 0, 2), None, [])
    message = message_view(row.conversation_id, answer.position, row.id, answer.created_at, answer._asdict())
    body = events_of_rounds(last_rounds(before))
    if message["content"]:
        body.append((DELTA, {"text": message["content"]}))
    return _End(max(row.last_sequence or 0, len(body) + 3), message, body)


def _read_answer(
    connection: Connection, turn: TurnStream, row: Row[Any]
) -> tuple[Row[Any] | BundledMessage | None, Sequence[Mapping[str, Any]]]:
    """Return the last message of the ended turn and those before it; set the conversation's title.

    They are in the live table or in a bundle.
    """
    key = {"user_id": turn.user_id, "conversation_id": row.conversation_id}
    place = {"position": row.answer_position, "first_position": row.position, "turn_id": row.id}
    for _ in range(_MAX_READS):
        message = turns.ANSWER.one(connection, {**key, **place})
        if message is None:
            return None, ()
        turn.title = message.title
        if row.answer_position is None:
            return None, ()
        if message.position is not None:
            return message, message.before or ()
        bundle = archives.find(connection, **key)
        if bundle is not None:
            return _read_bundle(bundle, row)
    return None, ()


def _read_bundle(bundle: Bundle, row: Row[Any]) -> tuple[BundledMessage | None, Sequence[Mapping[str, Any]]]:
    before: list[Mapping[str, Any]] = []
    for message in archives.messages(bundle, row.position - 1):
        if message.position >= row.answer_position:
            return (message if message.position == row.answer_position else None), before
        if message.turn_id == row.id and message.role != MessageRole.USER:
            before.append(message._asdict())
    return None, ()
