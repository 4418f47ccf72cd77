"""The end of an attempt in the database: one compare-and-set, retried while the database is unavailable."""

import logging
import random
import time
from dataclasses import replace
from itertools import count
from typing import Any

import orjson
from sqlalchemy import Engine, Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.bounds import FINISH_REASON_LIMIT, MODEL_LIMIT
from app.database import TRANSIENT_SQLSTATES, is_transient
from app.enums import TurnStatus
from app.errors import TurnFenced
from app.repositories.statement import Statement
from app.repositories.turn_finish import FINISH, FINISH_IN_QUOTA, FinishParameters
from app.repositories.turns import GET
from app.services.titles import preview_of
from app.turns.answer import Answer, as_parameter, messages_of
from app.turns.event_store import as_json
from app.turns.limits import charged_tokens
from app.turns.rounds import events_of_rounds
from app.turns.stream import RunningTurn, TurnError

# Sequences that a turn without stored events leaves free before its end, because a replay needs them for
# `turn.restarted` and for the answer's delta: live readers may have had all sequences before these. The events of
# rounds with tools need more.
RESERVED_SEQUENCES = 2

_RETRY_FOR = 60  # seconds; an answer that was paid for is not dropped because the database restarts
_BACKOFF, _MAX_BACKOFF = 0.1, 2.0  # seconds: the longest wait before the first retry, and before any
_INTEGER_MAX = 2**31 - 1

_log = logging.getLogger("parley.turns")


def finish(
    engine: Engine, turn: RunningTurn, status: TurnStatus, answer: Answer, error: TurnError | None = None
) -> tuple[Row[Any], dict[str, Any] | None]:
    """Close the attempt and store its answer in one transaction. Return the turn's row and the last message, if any.

    `engine` is in AUTOCOMMIT. Raises `TurnFenced` if another process closed the attempt, and the database's error after
    60 seconds of retries, or at once if a retry cannot succeed (`is_retryable`).
    """
    messages = messages_of(status, answer, turn.answer_metadata)
    statement, parameters = FINISH, _parameters(turn, status, answer, messages, error)
    if turn.tokens_sent is not None:
        tokens, estimated = charged_tokens(turn, status, answer)
        parameters = replace(parameters, charged=min(tokens, _INTEGER_MAX), estimated=estimated)
        statement = FINISH_IN_QUOTA
    row = _store(engine, statement, parameters)
    if row is None:
        raise TurnFenced
    return row, messages[-1] if messages else None


def is_retryable(error: BaseException) -> bool:
    """Return whether a finish that raised `error` may succeed later. XX (a server's internal error) may pass."""
    if isinstance(error, DBAPIError):
        return is_transient(error, states=(*TRANSIENT_SQLSTATES, "XX"))
    return isinstance(error, PoolTimeout)


def _parameters(
    turn: RunningTurn, status: TurnStatus, answer: Answer, messages: list[dict[str, Any]], error: TurnError | None
) -> FinishParameters:
    completed, usage, last = answer.completed, answer.usage, turn.events.last_sequence
    reserved = 0 if turn.stores_events else RESERVED_SEQUENCES + len(events_of_rounds(messages[:-1]))
    events = as_json(turn.events.pending()) if turn.stores_events else None
    return FinishParameters(
        user_id=turn.user_id,
        conversation_id=turn.conversation_id,
        turn_id=turn.id,
        attempt=turn.attempt,
        provider=turn.provider,
        # Cut to the columns' lengths, so that no answer is lost because of a long name.
        model=completed.model[:MODEL_LIMIT] if completed else None,
        status=status,
        finish_reason=completed.finish_reason[:FINISH_REASON_LIMIT] if completed else None,
        error=orjson.dumps(error.view()).decode() if error else None,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        since_first_token=answer.since_first_token,
        count=len(messages),
        messages=as_parameter(messages),
        preview=preview_of(messages[-1]["content"]) if messages else None,
        events=events,
        events_sequence=last if events else None,
        last_sequence=last + (2 if messages else 1) + reserved,
    )


def _store(engine: Engine, statement: Statement, parameters: FinishParameters) -> Row[Any] | None:
    """Run the statement, and retry it while the database is unavailable. None: the attempt is fenced."""
    until = time.monotonic() + _RETRY_FOR
    for retries in count():
        try:
            with engine.connect() as connection:
                row = statement.one(connection, vars(parameters))
                if row is None and retries:
                    row = _committed_row(GET.one(connection, {**vars(parameters), "stale_seconds": 0}), parameters)
                return row
        except (DBAPIError, PoolTimeout) as error:
            if not is_retryable(error) or time.monotonic() >= until:
                raise
        time.sleep(random.uniform(0, min(_BACKOFF * 2**retries, _MAX_BACKOFF)))  # noqa: S311  # no secret
    raise AssertionError("unreachable")


def _committed_row(row: Row[Any] | None, parameters: FinishParameters) -> Row[Any] | None:
    """Return the turn's row if an earlier try of this finish was committed and only its reply was lost."""
    if row is None or row.attempt != parameters.attempt or row.status != parameters.status:
        return None
    return row if (row.answer_position is not None) == (parameters.count > 0) else None
