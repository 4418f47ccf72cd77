"""Closing of stale attempts, whose process has stopped; done by the next caller, a remote subscriber or a job.

Readers may have seen what the attempt stored as events, so that becomes its partial answer, calls of tools included.
"""

from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection

from app.enums import TurnStatus
from app.errors import TurnInterrupted
from app.metrics.chat import record_turn_closed
from app.repositories import turn_stale as sql
from app.repositories.atomic import atomically
from app.repositories.turn_events import METADATA, METADATA_SEQUENCE
from app.services.titles import preview_of
from app.turns.answer import Answer, ToolRound, as_parameter, messages_of
from app.turns.event_buffer import RESTARTED, STARTED
from app.turns.rounds import PartialAnswer, unknown_result
from app.turns.stream import TurnError

_ERROR = TurnError.of(TurnInterrupted("The process that ran this turn stopped; send the message again."))
_BATCHES = 32  # per statement


def close_stale(
    connection: Connection,
    *,
    user_id: UUID,
    conversation_id: UUID,
    turn_id: UUID,
    attempt: UUID,
    stale_seconds: float,
) -> bool:
    """End the attempt as `interrupted`, with the answer of its stored events, and return True.

    `connection` is in AUTOCOMMIT. Return False if the attempt sent a heartbeat in the last `stale_seconds`, or has been
    closed already.
    """
    key = {"user_id": user_id, "conversation_id": conversation_id, "turn_id": turn_id, "attempt": attempt}
    with atomically(connection):
        if sql.LOCK.one(connection, {**key, "stale_seconds": stale_seconds}) is None:
            return False
        answer = _stored_answer(connection, key)
        if not answer.rounds:
            answer = replace(answer, rounds=_unknown_results(connection, key))
        messages = messages_of(TurnStatus.INTERRUPTED, answer)
        closed = sql.CLOSE.one(
            connection,
            {
                **key,
                "error": orjson.dumps(_ERROR.view()).decode(),
                "count": len(messages),
                "messages": as_parameter(messages),
                "preview": preview_of(messages[-1]["content"]) if messages else None,
            },
        )
    if closed is not None:
        record_turn_closed(TurnStatus.INTERRUPTED)
    return closed is not None


def _unknown_results(connection: Connection, key: dict[str, Any]) -> list[ToolRound]:
    """Return the results of the calls with which the turn began, if they were approved: they may have been made."""
    row = sql.APPROVED_CALLS.one(connection, key)
    if row is None:
        return []
    return [ToolRound("", [], [*map(unknown_result, row.tool_calls)])]


def _stored_answer(connection: Connection, key: dict[str, Any]) -> Answer:
    """Return the answer that the attempt's stored events show, up to the first missing event, and its files.

    Batches may overlap, because one is sent again if its reply was lost. Old ones may have been purged.
    """
    partial, last, after = PartialAnswer(), 0, METADATA_SEQUENCE - 1
    metadata: dict[str, Any] = {}
    while page := sql.EVENTS.all(connection, {**key, "after": after, "batches": _BATCHES}):
        for sequence, kind, data in (event for batch in page for event in batch.events):
            if kind == METADATA:
                metadata = data
            if sequence <= last:
                continue
            is_start = kind in (STARTED, RESTARTED)
            if not is_start and (not last or sequence > last + 1):
                return replace(partial.answer(), metadata=metadata)
            partial.add(kind, data)
            last = sequence
        after = page[-1].sequence
    return replace(partial.answer(), metadata=metadata)
