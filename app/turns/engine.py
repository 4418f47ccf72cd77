"""`TurnEngine`, the entry point to chat turns of a process.

    begin    one statement; the connection returns to the pool
    answer   a thread per turn asks the provider; no database connection is held
    finish   one statement, guarded by the fence

The answer does not depend on its readers: if all of them leave, it is still produced and stored.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row

from app.config import Chat, Files
from app.database import autocommit_engine
from app.enums import TurnStatus
from app.errors import NotFound, Overloaded, ParleyError
from app.metrics.chat import record_turn_begun
from app.providers.registry import ProviderRegistry
from app.repositories import turns as sql
from app.services.identity import Identity
from app.services.provider_choice import ProviderChoice, ProviderChoices
from app.storage.base import Store
from app.tools.registry import ToolRegistry
from app.turns.attempt import Attempt, ChatCommand
from app.turns.begin import TurnResolver
from app.turns.decision import Attach, Start
from app.turns.event_buffer import RESTARTED, STARTED, TurnEvent
from app.turns.event_store import TurnEventStore
from app.turns.files import TurnFiles
from app.turns.heartbeats import Heartbeats
from app.turns.open_streams import OpenStreams
from app.turns.pending import read_pending
from app.turns.remote import RemoteTurnPoller
from app.turns.replay import replay
from app.turns.runner import TurnRunner
from app.turns.running import RunningTurns
from app.turns.stream import RunningTurn, TurnError
from app.turns.subscription import Subscription
from app.turns.views import started_view, turn_view


class TurnEngine:
    """Starts, reads and stops turns. Thread-safe; create it in each process, after a fork."""

    def __init__(
        self,
        engine: Engine,
        providers: ProviderRegistry,
        settings: Chat,
        choices: ProviderChoices,
        tools: ToolRegistry,
        conversation_changed: Callable[[UUID, UUID], None] = lambda user_id, conversation_id: None,
        *,
        heartbeat_engine: Engine,
        files: Files,
        open_file_store: Callable[[], Store],
        no_room: Callable[[], ParleyError | None] = lambda: None,
    ) -> None:
        """`conversation_changed` is called with (user_id, conversation_id) after each stored turn; it must not block.

        `no_room` returns the error with which a new turn is refused because nothing may be stored, if so.
        `heartbeat_engine` connects to the same database; nothing that can wait for a lock uses it.
        """
        # Each statement of a turn is one transaction, so BEGIN and COMMIT would be two idle round trips.
        self._engine = autocommit_engine(engine)
        self._providers, self._settings, self._choices = providers, settings, choices
        self._default_models = {name: providers.get(name).default_model for name in providers.names}
        self._running = RunningTurns()
        self._event_store = TurnEventStore(self._engine, self._running)
        self._streams = OpenStreams()
        self._heartbeats = Heartbeats(heartbeat_engine, self._running, self._event_store, self._streams)
        self._streams.on_open = self._heartbeats.wake
        self._remote = RemoteTurnPoller(self._engine, settings.stale_seconds)
        self._resolver = TurnResolver(self._engine, settings, self._running, self._remote, no_room, files.context_chars)
        turn_files = TurnFiles(self._engine, files, open_file_store)
        self._runner = TurnRunner(
            self._engine, providers, choices, tools, self._running, conversation_changed, turn_files
        )

    @property
    def running(self) -> int:
        """Number of turns that this process runs."""
        return len(self._running)

    def start(self, command: ChatCommand) -> Subscription:
        """Begin a turn, or attach to the turn of a repeated idempotency key. The user's message is stored on return.

        The events of a streamed turn are stored from the first one on, so that it may be resumed on any process.

        Raises `InvalidInput` for an unknown provider, `Overloaded`, and what `TurnResolver.resolve` raises; nothing is
        stored then.
        """
        if command.provider is not None:
            self._providers.get(command.provider)
        if self.running >= self._settings.max_running:
            raise Overloaded("This server is running as many turns as it may; try again shortly.", retry_after=1)
        choice, began_at = self._choices.current(), time.monotonic()
        models = self._default_models if choice.model is None else {**self._default_models, choice.name: choice.model}
        match self._resolver.resolve(replace(command, default_models=models), choice.name):
            case Attach(subscription):
                if command.is_stream and isinstance(subscription.stream, RunningTurn):
                    self._event_store.request_storage(subscription.stream)
                return subscription
            case Start(attempt):
                return Subscription(self._run(attempt, choice, began_at, stores_events=command.is_stream))

    def approve(self, command: ChatCommand, turn_id: UUID, approved: Collection[str]) -> Subscription:
        """Begin the turn that makes or declines the calls that wait at the end of the turn `turn_id`.

        `approved` are the ids of the calls to make. `command` has no message and no conversation. Raises as `start`
        and `read_pending` do, and `ConversationAdvanced` if the calls no longer wait.
        """
        with self._engine.connect() as connection:
            stale_seconds = self._settings.stale_seconds
            pending = read_pending(connection, command.caller.user_id, turn_id, approved, stale_seconds)
        return self.start(replace(command, conversation_id=pending.conversation_id, pending=pending))

    def subscribe(self, caller: Identity, turn_id: UUID, after: int = 0) -> Subscription:
        """Return the stream of a turn of the caller: local, of another process, or replayed. Raises `NotFound`.

        `after` is the sequence of the last event that the reader has.
        """
        local = self._running.find(turn_id)
        if local is not None and local.user_id == caller.user_id:
            self._event_store.request_storage(local)
            return Subscription(local, after)
        with self._engine.connect() as connection:
            row = self._read(connection, caller.user_id, turn_id)
            if row.status == TurnStatus.RUNNING:
                return self._remote.subscribe(connection, caller.user_id, row, after)
            return replay(connection, caller.user_id, row, after)

    def read(self, caller: Identity, subscription: Subscription, ping_interval: float) -> Iterator[list[TurnEvent]]:
        """Yield the events of `subscription`, as `TurnEventBuffer.subscribe` does.

        The iteration ends with the caller's session or API key, within about a second.
        """
        return self._streams.read(caller, subscription, ping_interval)

    def cancel(self, caller: Identity, turn_id: UUID) -> dict[str, Any]:
        """Request the end of a running turn; the process that runs it stops it within about a second.

        Return the view of the turn, which may still run or have ended already. Raises `NotFound`.
        """
        with self._engine.connect() as connection:
            sql.REQUEST_CANCEL.one(connection, {"user_id": caller.user_id, "turn_id": turn_id})
        local = self._running.find(turn_id)
        if local is not None and local.user_id == caller.user_id:
            local.stop(TurnStatus.CANCELLED)
        return self.get(caller, turn_id)

    def interrupt_all(self) -> None:
        """End all turns of this process as `interrupted`, with the text so far, because the process must stop."""
        for turn in self._running.all():
            turn.stop(TurnStatus.INTERRUPTED)

    def get(self, caller: Identity, turn_id: UUID) -> dict[str, Any]:
        """Return the view of a turn of the caller, from the database. Raises `NotFound`."""
        with self._engine.connect() as connection:
            return turn_view(self._read(connection, caller.user_id, turn_id))

    def _read(self, connection: Connection, user_id: UUID, turn_id: UUID) -> Row[Any]:
        parameters = {"user_id": user_id, "turn_id": turn_id, "stale_seconds": self._settings.stale_seconds}
        row = sql.GET.one(connection, parameters)
        if row is None:
            raise NotFound("There is no such turn.")
        return row

    def _run(self, attempt: Attempt, choice: ProviderChoice, began_at: float, *, stores_events: bool) -> RunningTurn:
        """Run the attempt in a thread of its own, and return its stream."""
        turn = attempt.turn
        if turn.model is None and turn.provider == choice.name:
            turn.model = choice.model
        turn.events.append(RESTARTED if turn.events.last_sequence else STARTED, started_view(turn, turn.title))
        record_turn_begun()
        self._running.add(turn)
        if stores_events:
            self._event_store.request_storage(turn)
        self._heartbeats.wake()
        context = contextvars.copy_context()  # the logs of the thread show the request's id
        try:
            threading.Thread(
                target=context.run, args=(self._runner.run, attempt, began_at), name="turn", daemon=True
            ).start()
        except RuntimeError:  # the system allows no more threads; the turn has begun, so it must end
            error = Overloaded("This server cannot run more turns now; try again shortly.", retry_after=1)
            self._runner.run(replace(attempt, failure=TurnError.of(error)), began_at)
        return turn
