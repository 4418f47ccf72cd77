"""The beginning of a chat request: start a new attempt, or attach to the stream of an existing turn.

Usually one statement begins the turn. If it returns no row, a diagnosis reads why, in this order: the session or API
key has ended, the idempotency key was used before, the conversation does not exist, it is in a bundle, a stale attempt
holds it, a running one holds it; or the user has reached a limit. What can be removed is removed, and the begin is
retried.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import IntegrityError

from app.config import Chat
from app.database import violated_constraint
from app.enums import ConversationStorage, KeyScope
from app.errors import (
    ConversationBusy,
    IdempotencyMismatch,
    NotAuthenticated,
    NotFound,
    ParleyError,
    TooManyTurns,
)
from app.metrics.chat import record_turn_resumed
from app.repositories.turn_begin import BeginKind, BeginParameters, execute_begin
from app.repositories.turn_diagnosis import DIAGNOSE, DIAGNOSE_BY_KEY, RELEASE_LEASE
from app.services import api_keys, archives
from app.services.file_references import read_references
from app.turns.attempt import Attempt, ChatCommand, attempt_from, begin_parameters
from app.turns.decision import Attach, Start
from app.turns.limits import QuotaHolders, check_limits
from app.turns.pending import failed_approval
from app.turns.remote import RemoteTurnPoller
from app.turns.retry import ExistingTurn, resume_or_retry
from app.turns.running import RunningTurns
from app.turns.stale import close_stale
from app.turns.subscription import Subscription

_MAX_TRIES = 4


class TurnResolver:
    """Decides what a chat request does. `engine` is in AUTOCOMMIT."""

    def __init__(
        self,
        engine: Engine,
        settings: Chat,
        running: RunningTurns,
        remote: RemoteTurnPoller,
        no_room: Callable[[], ParleyError | None],
        files_chars: int,
    ) -> None:
        self._engine, self._settings, self._running, self._remote = engine, settings, running, remote
        self._no_room, self._files_chars = no_room, files_chars
        self._quota_holders = QuotaHolders()

    def resolve(self, command: ChatCommand, default_provider: str) -> Attach | Start:
        """Begin a turn or a new attempt at one, or find the turn of a repeated idempotency key.

        Raises as `begin` and `resume_or_retry` do.
        """
        full = self._no_room()
        with self._engine.connect() as connection:
            # A file may be deleted until the begin, as it may be after it.
            references = read_references(connection, command.caller.user_id, command.files) if command.files else []
            absent = NotFound("There is no such file.") if len(references) < len(command.files) else None
            parameters = begin_parameters(command, self._settings, default_provider, self._files_chars, references)
            begun = begin(connection, command, parameters, self._quota_holders, full or absent)
            if isinstance(begun, Attempt):
                return Start(begun)
            local = self._running.find(begun.turn_id)
            if local is not None and local.outcome is None:  # a turn that has just ended is replayed
                record_turn_resumed()
                return Attach(Subscription(local, command.after))
            return resume_or_retry(connection, command, parameters, begun, self._remote, self._quota_holders, full=full)


def begin(
    connection: Connection,
    command: ChatCommand,
    parameters: BeginParameters,
    holders: QuotaHolders,
    full: ParleyError | None = None,
) -> Attempt | ExistingTurn:
    """Begin a turn on an AUTOCOMMIT connection, or return the turn for which the idempotency key was used.

    `full` is raised in place of beginning a turn. Raises `NotAuthenticated`, `IdempotencyMismatch`, `NotFound`,
    `ConversationBusy`, `ArchiveDamaged`, `TooManyTurns`, `StorageLimitReached` and `QuotaExceeded`; nothing is stored
    then.
    """
    kind = BeginKind.EXISTING if command.conversation_id else BeginKind.NEW
    if command.pending is not None:
        kind = BeginKind.APPROVAL
    for _ in range(_MAX_TRIES):
        row = None if full else _try_begin(connection, kind, parameters, holders)
        if row is not None:
            return attempt_from(connection, command, parameters, row)
        existing = _diagnose(connection, command, parameters, full)
        if existing is not None:
            return existing
        check_limits(connection, parameters, holders)
    # A new conversation cannot be busy, so the tries were lost to slot collisions.
    raise ConversationBusy(retry_after=1) if command.conversation_id else TooManyTurns(retry_after=1)


def _try_begin(
    connection: Connection, kind: BeginKind, parameters: BeginParameters, holders: QuotaHolders
) -> Row[Any] | None:
    try:
        return execute_begin(connection, kind, parameters, in_quota=parameters.user_id in holders)
    except IntegrityError as error:
        match violated_constraint(error):
            case "fk_conversations_projects":
                raise NotFound("There is no such project.") from None
            case "fk_conversations_users":
                raise NotAuthenticated("The account has been deleted.") from None
            case "uq_turns_idempotency_key":
                return None  # a concurrent request with the same key began; the diagnosis finds its turn
        raise


def _diagnose(
    connection: Connection, command: ChatCommand, parameters: BeginParameters, full: ParleyError | None
) -> ExistingTurn | None:
    """Raise the reason why no turn began; return None if the begin may be retried."""
    statement = DIAGNOSE_BY_KEY if command.caller.key else DIAGNOSE
    row = statement.one(connection, vars(parameters))
    assert row is not None  # noqa: S101  # it selects from one constant row
    if not row.caller_live:
        if command.caller.key:
            api_keys.verify(connection, command.caller, KeyScope.CHAT)  # raises, with the reason
            return None  # the user was enabled between the two statements
        raise NotAuthenticated("The session has ended; log in again.")
    if row.earlier_turn_id is not None:
        if bytes(row.earlier_request_hash) != parameters.request_hash:
            raise IdempotencyMismatch
        return ExistingTurn(row.earlier_turn_id)
    if row.other_request:
        raise IdempotencyMismatch
    if full is not None:
        raise full
    if command.conversation_id is not None:
        _free_conversation(connection, parameters.user_id, parameters.stale_seconds, row)
    if command.pending is not None and row.next_position > command.pending.next_position:
        return ExistingTurn(failed_approval(connection, parameters.user_id, command.pending))
    return None


def _free_conversation(connection: Connection, user_id: UUID, stale_seconds: float, row: Row[Any]) -> None:
    """Restore a bundled conversation, or end a stale lease. Raises `NotFound` and `ConversationBusy`."""
    if row.conversation_id is None:
        raise NotFound("There is no such conversation.")
    if row.storage == ConversationStorage.BUNDLED:
        archives.restore(connection, user_id, row.conversation_id)
        return
    if row.running_attempt is None:
        return  # released between the two statements
    if not row.stale:
        raise ConversationBusy(retry_after=1)
    lease = {"user_id": user_id, "conversation_id": row.conversation_id, "attempt": row.running_attempt}
    if row.running_turn_id is None:
        RELEASE_LEASE.one(connection, lease)
    else:
        close_stale(connection, **lease, turn_id=row.running_turn_id, stale_seconds=stale_seconds)
