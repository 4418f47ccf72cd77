"""The ledger of calls that must not be repeated: each is recorded before it is made, so that a new attempt finds it."""

import logging
from collections.abc import Callable
from uuid import UUID

from sqlalchemy import Engine, Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.enums import ToolCallState
from app.repositories import tool_calls as sql
from app.tools.registry import CallOutcome
from app.tools.tool import ToolResult
from app.turns.stream import RunningTurn

NOT_RECORDED = "The call was not made, because it could not be recorded; the database is unavailable at the moment."
CLOSED = "The call was not made, because the turn has ended."
OUTCOME_UNKNOWN = (
    "This call was made before, when this turn was first attempted, and its outcome is unknown. It was not made again."
    " Find out whether it had its effect, or ask the user."
)

_log = logging.getLogger("parley.tools")


class CallLedger:
    """Makes each call at most once for all attempts of a turn. `engine` is in AUTOCOMMIT.

    No connection is held during a call.
    """

    def __init__(self, engine: Engine, turn: RunningTurn) -> None:
        self._engine, self._turn = engine, turn

    def call_once(self, turn_id: UUID, key: str, tool: str, run: Callable[[], CallOutcome]) -> ToolResult:
        """Call `run`, or return the result of the call recorded under this key of the turn `turn_id`. Raise nothing."""
        parameters = {
            "user_id": self._turn.user_id,
            "turn_id": self._turn.id,
            "attempt": self._turn.attempt,
            "ledger_turn_id": turn_id,
            "key": key,
        }
        try:
            with self._engine.connect() as connection:
                row = sql.BEGIN.one(connection, {**parameters, "tool": tool})
        except (DBAPIError, PoolTimeout):
            _log.warning("a call of a tool could not be recorded", exc_info=True, extra={"tool": tool})
            return ToolResult(NOT_RECORDED, is_error=True)
        if row is None or not row.running:
            return ToolResult(CLOSED, is_error=True)
        if not row.begun:
            return _earlier_result(row)
        outcome = run()
        result = outcome.result
        state = ToolCallState.UNKNOWN if outcome.uncertain else ToolCallState.DONE
        content = None if outcome.uncertain else result.content
        try:
            with self._engine.connect() as connection:
                sql.FINISH.run(
                    connection, {**parameters, "state": state, "content": content, "is_error": result.is_error}
                )
        except (DBAPIError, PoolTimeout):  # the model gets the result; only a new attempt does not find it
            _log.warning("the result of a tool could not be recorded", exc_info=True, extra={"tool": tool})
        return result


def _earlier_result(row: Row[tuple[object, ...]]) -> ToolResult:
    if row.state == ToolCallState.DONE:
        return ToolResult(row.content, is_error=bool(row.is_error))
    return ToolResult(OUTCOME_UNKNOWN, is_error=True)
