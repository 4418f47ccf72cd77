"""An attempt whose process has gone silent is closed by whoever notices: the next caller, a follower, the clock."""

from uuid import UUID

import orjson
from sqlalchemy import Connection

from app.errors import TurnInterrupted
from app.metrics.chat import record_turn_closed
from app.models.turn import TurnStatus
from app.repositories import turns as sql

_SILENT = TurnInterrupted("The process that was answering went silent; send the message again.")


def close_stale(
    connection: Connection,
    *,
    user_id: UUID,
    conversation_id: UUID,
    turn_id: UUID,
    attempt: UUID,
    stale_seconds: float,
) -> bool:
    """End the attempt as `interrupted`, on an AUTOCOMMIT connection; whether it was this call that did.

    False: it has spoken within `stale_seconds` after all, or somebody else was faster.
    """
    closed = sql.CLOSE_STALE.one(
        connection,
        {
            "user_id": user_id,
            "conversation_id": conversation_id,
            "turn_id": turn_id,
            "attempt": attempt,
            "stale_seconds": stale_seconds,
            "error": orjson.dumps({"code": _SILENT.code, "detail": _SILENT.detail}).decode(),
        },
    )
    if closed is not None:
        record_turn_closed(TurnStatus.INTERRUPTED)
    return closed is not None
