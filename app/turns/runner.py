"""The run of one attempt in its own thread: produce the answer, store it, publish the end."""

import logging
import time
from collections.abc import Callable
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.enums import TurnStatus
from app.errors import DatabaseUnavailable, ParleyError, TurnFenced
from app.metrics.chat import record_turn
from app.providers.registry import ProviderRegistry
from app.services.provider_choice import ProviderChoices
from app.tools.registry import ToolRegistry
from app.turns.answer import Answer, AnswerResult
from app.turns.attempt import Attempt
from app.turns.event_buffer import COMPLETED, RESTARTED
from app.turns.files import TurnFiles
from app.turns.finish import finish, is_retryable
from app.turns.loop import AnswerLoop
from app.turns.running import RunningTurns
from app.turns.stream import Outcome, RunningTurn, TurnError
from app.turns.views import message_view, running_view, started_view, turn_view

_NOT_READ = "The files of the conversation could not be read; send the message again."
_NOT_STORED = "The answer could not be stored; send the message again."

_log = logging.getLogger("parley.turns")


class TurnRunner:
    """Runs attempts of this process to their end. `engine` is in AUTOCOMMIT."""

    def __init__(
        self,
        engine: Engine,
        providers: ProviderRegistry,
        choices: ProviderChoices,
        tools: ToolRegistry,
        running: RunningTurns,
        conversation_changed: Callable[[UUID, UUID], None],
        files: TurnFiles,
    ) -> None:
        self._engine, self._running = engine, running
        self._loop = AnswerLoop(providers, choices, tools, engine)
        self._conversation_changed, self._files = conversation_changed, files

    def run(self, attempt: Attempt, began_at: float) -> None:
        """Produce the answer and end the attempt, which began at `began_at` (monotonic). No exception leaves it."""
        turn = attempt.turn
        status: TurnStatus | None = None
        try:
            result = self._answer(attempt)
            if turn.fenced:
                raise TurnFenced
            status = self._store(turn, result)
            self._conversation_changed(turn.user_id, turn.conversation_id)
        except ParleyError as error:
            _drop(turn, error)
        except Exception:
            # The database was unavailable for as long as finish retries; the turn becomes stale.
            _log.exception("a turn could not be stored", extra={"turn_id": str(turn.id)})
            _drop(turn, DatabaseUnavailable(_NOT_STORED))
        finally:
            self._running.remove(turn)
            record_turn(status, time.monotonic() - began_at)

    def _answer(self, attempt: Attempt) -> AnswerResult:
        if attempt.failure is not None:
            return AnswerResult(TurnStatus.FAILED, Answer(""), attempt.failure)
        if attempt.files is None:
            return self._loop.produce(attempt)
        try:
            with self._files.add_to(attempt) as prepared:
                return self._loop.produce(prepared)
        except (DBAPIError, PoolTimeout):
            _log.exception("the files of a turn could not be read", extra={"turn_id": str(attempt.turn.id)})
            return AnswerResult(TurnStatus.FAILED, Answer(""), TurnError.of(DatabaseUnavailable(_NOT_READ)))

    def _store(self, turn: RunningTurn, result: AnswerResult) -> TurnStatus:
        """Store and publish the end; return the stored status, which is `failed` if the answer cannot be stored."""
        status, error = result.status, result.error
        try:
            row, message = finish(self._engine, turn, status, result.answer, error)
            last = row.last_sequence
        except TurnFenced:
            raise
        except Exception as rejection:
            if is_retryable(rejection):
                raise
            _log.exception("an answer was rejected by the database", extra={"turn_id": str(turn.id)})
            turn.stores_events = False  # the events may be what was rejected
            status, error = TurnStatus.FAILED, TurnError.of(DatabaseUnavailable(_NOT_STORED))
            row, message = finish(self._engine, turn, status, Answer(""), error)
            if not result.answer.is_empty:  # which is not stored, so readers discard it
                turn.events.append(RESTARTED, started_view(turn, turn.title))
            last = turn.events.last_sequence + 1
        answer = None
        if message:
            answer = message_view(turn.conversation_id, row.answer_position, turn.id, row.finished_at, message)
            turn.events.append(COMPLETED, {"message": answer}, sequence=last - 1)
        view = turn_view(row)
        turn.end(Outcome(status, view, answer, error), f"turn.{status}", {"turn": view}, sequence=last)
        return status


def _drop(turn: RunningTurn, error: ParleyError) -> None:
    """End the stream of an attempt that stored nothing. The database has the turn's real state."""
    _log.warning("attempt dropped: %s", error.code, extra={"turn_id": str(turn.id)})
    status = TurnStatus.INTERRUPTED if isinstance(error, TurnFenced) else TurnStatus.FAILED
    turn_error = TurnError.of(error)
    view = {**running_view(turn), "status": status.value, "error": turn_error.view()}
    turn.end(Outcome(status, view, None, turn_error), f"turn.{status}", {"turn": view})
