"""The one orchestrator of a chat turn: begin, answer, finish.

    begin    one statement; the connection goes home
    answer   a thread of its own talks to the provider; nothing of the database is held
    finish   one statement, guarded by the fence

The reader going away changes nothing: the answer is produced, stored, and found in the conversation later.
"""

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row

from app.config import Chat
from app.errors import (
    DatabaseUnavailable,
    NotFound,
    Overloaded,
    ParleyError,
    ProviderBadAnswer,
    TurnFenced,
    TurnInterrupted,
)
from app.metrics.chat import record_turn, record_turn_begun, record_turn_replayed, record_turn_resumed
from app.models.turn import TurnStatus
from app.providers.base import ChatRequest, Completed
from app.providers.registry import ProviderRegistry
from app.repositories import turns as sql
from app.services.again import again
from app.services.begin import Begun, ChatCommand, Prior, begin
from app.services.event_log import EventLog
from app.services.finish import Answer, finish, passing
from app.services.followers import Followers
from app.services.heartbeats import Heartbeats
from app.services.identity import Identity
from app.services.narration import DELTA
from app.services.provider_choice import ProviderChoices
from app.services.running_turn import Outcome, RunningTurn, ToldTurn
from app.services.telling import retell
from app.services.turn_limits import QuotaHolders
from app.services.turn_metrics import record_answer
from app.services.turn_views import message_view, running_view, turn_view

_NOT_STORED = "The answer could not be stored; send the message again."

_log = logging.getLogger("parley.turns")


class TurnEngine:
    """Runs the turns of one process. Thread-safe; made after a fork, or without one."""

    def __init__(
        self,
        engine: Engine,
        providers: ProviderRegistry,
        settings: Chat,
        choices: ProviderChoices,
        changed: Callable[[UUID, UUID], None] = lambda user_id, conversation_id: None,
        *,
        beats: Engine,
    ) -> None:
        """`changed` is told of each conversation that has a stored turn more; it neither waits nor raises. `beats` is
        the same database by a connection that nobody else waits for.
        """
        # Each statement of a turn is one transaction of its own, so BEGIN and COMMIT would be two idle round trips.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._providers = providers
        self._choices = choices
        self._settings = settings
        self._changed = changed
        self._quota_holders = QuotaHolders()
        self._heartbeats = Heartbeats(beats, want=lambda turn: self._events.want(turn))
        self._events = EventLog(self._engine, self._heartbeats.all)
        self._followers = Followers(self._engine, settings.stale_seconds)

    @property
    def running(self) -> int:
        """Turns being answered by this process."""
        return len(self._heartbeats)

    def start(self, command: ChatCommand) -> ToldTurn:
        """Begin a turn and set its answer going. When this returns, the user's message is durable.

        With an idempotency key that was used before: that turn, joined or as it ended, or a new attempt at it. Raises
        `InvalidInput` for an unknown provider, `Overloaded` and what `begin` and `again` raise; nothing is stored then.
        """
        if command.provider is not None:
            self._providers.get(command.provider)
        if self.running >= self._settings.max_running:
            raise Overloaded("This server is answering as many turns as it may; try again shortly.", retry_after=1)
        choice, started = self._choices.current(), time.monotonic()
        with self._engine.connect() as connection:
            found = begin(connection, command, self._settings, choice.name, self._quota_holders)
            if isinstance(found, Prior):
                local = self._heartbeats.find(found.turn_id)
                if local is not None and local.outcome is None:  # one that has just ended is told again
                    record_turn_resumed()
                    return local
                user_id = command.caller.user_id
                follow = partial(self._followers.follow, connection, user_id)
                begun: Begun | ToldTurn = again(
                    connection, command, found, self._settings, choice.name, follow, self._quota_holders
                )
            else:
                begun = found
        if isinstance(begun, ToldTurn):
            record_turn_replayed()
            return begun
        if begun.turn.model is None and begun.turn.provider == choice.name:
            begun.turn.model = choice.model
        first = "turn.restarted" if begun.turn.narration.last else "turn.started"
        begun.turn.say(first, {"turn": running_view(begun.turn)})
        record_turn_begun()
        self._heartbeats.add(begun.turn)
        context = contextvars.copy_context()  # the request's id goes along into the logs
        try:
            threading.Thread(target=context.run, args=(self._answer, begun, started), name="turn", daemon=True).start()
        except RuntimeError:  # the machine has no more threads; what has begun must end all the same
            refused = Overloaded("This server can answer no more turns just now; try again shortly.", retry_after=1)
            self._answer(replace(begun, failure=refused), started)
        return begun.turn

    def listen(self, turn: ToldTurn) -> ToldTurn:
        """Somebody listens to `turn`: if it is answered here, what it says is stored for whoever goes on elsewhere."""
        if isinstance(turn, RunningTurn):
            self._events.want(turn)
        return turn

    def follow(self, caller: Identity, turn_id: UUID) -> ToldTurn:
        """A turn of the caller's to listen to, whichever process answers it, or as it ended. Raises `NotFound`."""
        local = self._heartbeats.find(turn_id)
        if local is not None and local.user_id == caller.user_id:
            return self.listen(local)
        with self._engine.connect() as connection:
            row = self._row(connection, caller.user_id, turn_id)
            if row.status == TurnStatus.RUNNING:
                return self._followers.follow(connection, caller.user_id, row)
            return retell(connection, caller.user_id, row)

    def cancel(self, caller: Identity, turn_id: UUID) -> dict[str, Any]:
        """Ask for the end of a running turn, on whichever process answers it; heard there within about a second.

        Returns the turn as it stands: still running, or ended already, which is no error. Raises `NotFound`.
        """
        with self._engine.connect() as connection:
            sql.REQUEST_CANCEL.one(connection, {"user_id": caller.user_id, "turn_id": turn_id})
        local = self._heartbeats.find(turn_id)
        if local is not None and local.user_id == caller.user_id:
            local.stop(TurnStatus.CANCELLED)
        return self.get(caller, turn_id)

    def interrupt_all(self) -> None:
        """End every running turn of this process as `interrupted`, keeping what there is: the process must go."""
        for turn in self._heartbeats.all():
            turn.stop(TurnStatus.INTERRUPTED)

    def get(self, caller: Identity, turn_id: UUID) -> dict[str, Any]:
        """A turn of the caller's, as it stands in the database. Raises `NotFound`."""
        with self._engine.connect() as connection:
            return turn_view(self._row(connection, caller.user_id, turn_id))

    def _row(self, connection: Connection, user_id: UUID, turn_id: UUID) -> Row[Any]:
        parameters = {"user_id": user_id, "turn_id": turn_id, "stale_seconds": self._settings.stale_seconds}
        row = sql.GET.one(connection, parameters)
        if row is None:
            raise NotFound("There is no such turn.")
        return row

    def _answer(self, begun: Begun, started: float) -> None:
        """Produce the answer and end the attempt. Runs in the turn's own thread; nothing may escape it."""
        turn, asked = begun.turn, time.monotonic()
        stored: TurnStatus | None = None
        try:
            if begun.failure is None:
                status, answer, error = self._ask(begun)
                record_answer(
                    self._providers, self._choices.last(), turn, status, answer, error, time.monotonic() - asked
                )
            else:
                status, answer, error = TurnStatus.FAILED, Answer(""), begun.failure
            if turn.fenced:
                raise TurnFenced
            stored = self._end(turn, status, answer, error)
            self._changed(turn.user_id, turn.conversation_id)
        except ParleyError as error:
            self._give_up(turn, error)
        except Exception:
            # The database stayed away for as long as finish tries; the turn will be found stale.
            _log.exception("a turn could not be stored", extra={"turn_id": str(turn.id)})
            self._give_up(turn, DatabaseUnavailable(_NOT_STORED))
        finally:
            self._heartbeats.remove(turn)
            record_turn(stored, time.monotonic() - started)

    def _ask(self, begun: Begun) -> tuple[TurnStatus, Answer, ParleyError | None]:
        """Stream the provider's answer to the readers; how it ended, what there is of it, and why not more."""
        turn = begun.turn
        completed: Completed | None = None
        first: float | None = None
        error: ParleyError | None = None
        request = ChatRequest(begun.context, turn.model, options=begun.options, hangup=turn.hangup)
        try:
            asked = self._providers.stream(turn.provider, request, replaceable=begun.replaceable)
            with asked as (provider, events):
                if provider.name != turn.provider:  # the fallback, with a model of its own
                    turn.provider, turn.model = provider.name, None
                for event in events:
                    first = first or time.monotonic()
                    if isinstance(event, Completed):
                        completed = event
                    elif turn.stop_status is None:
                        turn.say(DELTA, {"text": event.text})
                    else:
                        break
        except ParleyError as caught:  # of the provider, or because a project names one that is no longer configured
            error = caught
        except Exception:
            _log.exception("a turn met an unforeseen error", extra={"turn_id": str(turn.id)})
            error = ParleyError()
        answer = Answer(turn.narration.text(), completed, time.monotonic() - first if first else None)
        if completed is not None:
            return TurnStatus.COMPLETED, answer, None
        if turn.stop_status is not None:
            interrupted = turn.stop_status is TurnStatus.INTERRUPTED
            return turn.stop_status, answer, TurnInterrupted() if interrupted else None
        error = error or ProviderBadAnswer()
        _log.warning("provider failed: %s", error.code, extra={"provider": turn.provider, "turn_id": str(turn.id)})
        return TurnStatus.FAILED, answer, error

    def _end(self, turn: RunningTurn, status: TurnStatus, answer: Answer, error: ParleyError | None) -> TurnStatus:
        """Store how the attempt ended, and tell it. Returns the status stored: failed, where no more could be."""
        try:
            row, message = finish(self._engine, turn, status, answer, error)
        except TurnFenced:
            raise
        except Exception as refused:
            if passing(refused):
                raise
            _log.exception("an answer can never be stored", extra={"turn_id": str(turn.id)})
            turn.wanted = False  # nor is what has been told stored once more: it may be what was refused
            status, error = TurnStatus.FAILED, DatabaseUnavailable(_NOT_STORED)
            row, message = finish(self._engine, turn, status, Answer(""), error)
        shown = None
        if message:
            shown = message_view(turn.conversation_id, row.answer_position, turn.id, row.finished_at, message)
            turn.say("message.completed", {"message": shown})
        view = turn_view(row)
        turn.end(Outcome(status, view, shown, error), f"turn.{status}", {"turn": view})
        return status

    def _give_up(self, turn: RunningTurn, error: ParleyError) -> None:
        """Tell the readers that this attempt left nothing; the database says what became of the turn."""
        _log.warning("attempt dropped: %s", error.code, extra={"turn_id": str(turn.id)})
        status = TurnStatus.INTERRUPTED if isinstance(error, TurnFenced) else TurnStatus.FAILED
        view = {**running_view(turn), "status": status.value, "error": {"code": error.code, "detail": error.detail}}
        turn.end(Outcome(status, view, None, error), f"turn.{status}", {"turn": view})
