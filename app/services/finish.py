"""**finish**: the end of an attempt, by one compare-and-set on the fence, tried again while the database is away."""

import logging
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Engine, Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from app.database import NOT_NOW, is_passing
from app.errors import ParleyError, TurnFenced
from app.models.message import ANSWER_CONTENT_LIMIT
from app.models.turn import FINISH_REASON_LIMIT, MODEL_LIMIT, TurnStatus
from app.providers.base import Completed, Usage
from app.repositories import turns as sql
from app.repositories.statement import Statement
from app.services.event_log import as_json
from app.services.running_turn import RunningTurn
from app.services.titles import preview_of
from app.services.turn_limits import charged

_KEEP_TRYING = 60  # seconds; an answer that was paid for is not dropped because the database restarts

_log = logging.getLogger("parley.turns")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt brought: text (whole or partial), the provider's last word if it came, times."""

    text: str
    completed: Completed | None = None
    since_first_token: float | None = None  # seconds


def finish(
    engine: Engine, turn: RunningTurn, status: TurnStatus, answer: Answer, error: ParleyError | None = None
) -> tuple[Row[Any], dict[str, Any] | None]:
    """Close the attempt and store its answer, both or neither. Returns the turn's row and the message stored, if any.

    `engine` is in AUTOCOMMIT. Raises `TurnFenced` if somebody else has closed this attempt, and what the database says
    when it stays away for too long, or at once when it would say the same the next time (`passing` tells which).
    """
    message = _message(status, answer)
    parameters = {
        "user_id": turn.user_id,
        "conversation_id": turn.conversation_id,
        "turn_id": turn.id,
        "attempt": turn.attempt,
        "provider": turn.provider,
        "status": status,
        "count": 1 if message else 0,
        "messages": orjson.dumps([{"place": 0, **message}] if message else []).decode(),
        "preview": preview_of(message["content"]) if message else None,
        "error": orjson.dumps({"code": error.code, "detail": error.detail}).decode() if error else None,
        "since_first_token": answer.since_first_token,
        **_told(turn, with_message=message is not None),
        "stale_seconds": 0,
        **_provider_said(answer.completed),
    }
    statement = sql.FINISH
    if turn.tokens_sent is not None:
        statement, parameters = sql.FINISH_IN_QUOTA, {**parameters, **_charged(turn, status, answer)}
    row = _store(engine, statement, parameters, turn, status, with_message=message is not None)
    if row is None:
        raise TurnFenced
    return row, message


def _store(
    engine: Engine,
    statement: Statement,
    parameters: dict[str, Any],
    turn: RunningTurn,
    status: TurnStatus,
    *,
    with_message: bool,
) -> Row[Any] | None:
    """Run the statement, again and again while the database is away. None: the attempt has been fenced."""
    try:
        with engine.connect() as connection:
            return statement.one(connection, parameters)
    except (DBAPIError, PoolTimeout) as error:
        if not passing(error):
            raise
    # Only from here on, because tenacity takes 50 us even if there is nothing to be tried again.
    tries = Retrying(
        retry=retry_if_exception(passing),
        stop=stop_after_delay(_KEEP_TRYING),
        wait=wait_random_exponential(0.1, max=2),
        reraise=True,
    )
    row: Row[Any] | None = None
    for attempt in tries:
        with attempt, engine.connect() as connection:
            row = statement.one(connection, parameters)
            if row is None:
                row = _committed_before(sql.GET.one(connection, parameters), turn, status, with_message)
    return row


def passing(error: BaseException) -> bool:
    """Whether a finish that met this error may succeed later. A server in trouble (XX) may recover."""
    if isinstance(error, DBAPIError):
        return is_passing(error, states=(*NOT_NOW, "XX"))
    return isinstance(error, PoolTimeout)


def _told(turn: RunningTurn, *, with_message: bool) -> dict[str, Any]:
    """What followers have been told since it was stored last, and the number of the event that will be the last."""
    last = turn.narration.last
    told = as_json(turn.narration.unstored()) if turn.wanted else None
    return {
        "told": told,
        "told_sequence": last if told else None,
        "last_sequence": last + (2 if with_message else 1),
    }


def _provider_said(completed: Completed | None) -> dict[str, Any]:
    """What fits: an answer is not lost over the name that its model gives itself."""
    return {
        "model": completed.model[:MODEL_LIMIT] if completed else None,
        "finish_reason": completed.finish_reason[:FINISH_REASON_LIMIT] if completed else None,
        "input_tokens": completed.usage.input_tokens if completed else None,
        "output_tokens": completed.usage.output_tokens if completed else None,
    }


def _charged(turn: RunningTurn, status: TurnStatus, answer: Answer) -> dict[str, Any]:
    usage = answer.completed.usage if answer.completed else Usage()
    heard = answer.completed is not None or answer.since_first_token is not None
    tokens, estimated = charged(turn, status, usage, answer.text, heard=heard)
    return {"charged": min(tokens, 2**31 - 1), "estimated": estimated}


def _message(status: TurnStatus, answer: Answer) -> dict[str, Any] | None:
    """The assistant's message to store: always one for a completed turn, else whatever there is of it, marked."""
    if status is not TurnStatus.COMPLETED and not answer.text:
        return None
    metadata: dict[str, Any] = {}
    if status is not TurnStatus.COMPLETED:
        metadata["partial"] = status.value
    if len(answer.text) > ANSWER_CONTENT_LIMIT:
        metadata["truncated"] = True
    return {"role": "assistant", "content": answer.text[:ANSWER_CONTENT_LIMIT], "metadata": metadata}


def _committed_before(
    stored: Row[Any] | None, turn: RunningTurn, status: TurnStatus, with_message: bool
) -> Row[Any] | None:
    """The turn's row, if an earlier try of this very finish was committed and only its reply was lost."""
    if stored is None or stored.attempt != turn.attempt or stored.status != status:
        return None
    return stored if (stored.answer_position is not None) == with_message else None
