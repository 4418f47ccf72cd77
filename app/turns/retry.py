"""Repeated idempotency keys: join a running turn, replay a completed one, retry a failed one."""

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from app.enums import ConversationStorage, TurnStatus
from app.errors import ConversationAdvanced, ConversationBusy, NotFound, ParleyError
from app.metrics.chat import record_turn_replayed
from app.repositories import turns as sql
from app.repositories.turn_begin import BeginKind, BeginParameters, execute_begin
from app.services import archives
from app.turns.attempt import ChatCommand, attempt_from
from app.turns.decision import Attach, Start
from app.turns.limits import QuotaHolders, check_limits
from app.turns.pending import with_answers
from app.turns.remote import RemoteTurnPoller
from app.turns.replay import replay
from app.turns.stale import close_stale

_MAX_TRIES = 4  # each after a concurrent change


@dataclass(frozen=True, slots=True)
class ExistingTurn:
    """The turn of an earlier request with the same idempotency key and the same content."""

    turn_id: UUID


def resume_or_retry(
    connection: Connection,
    command: ChatCommand,
    parameters: BeginParameters,
    existing: ExistingTurn,
    remote: RemoteTurnPoller,
    holders: QuotaHolders,
    *,
    full: ParleyError | None = None,
) -> Attach | Start:
    """Subscribe to the existing turn if it runs, replay it if it completed, else begin a new attempt at it.

    `full` is raised in place of a new attempt. `connection` is in AUTOCOMMIT. Raises `NotFound` if the turn was
    deleted, `ConversationAdvanced` if it failed and later messages exist, `ArchiveDamaged`, `TooManyTurns`,
    `StorageLimitReached`, `QuotaExceeded`, and `ConversationBusy` if its state changes during each try.
    """
    parameters = replace(parameters, turn_id=existing.turn_id)
    for _ in range(_MAX_TRIES):
        row = sql.GET.one(connection, vars(parameters))
        if row is None:
            raise NotFound("The conversation of this request has been deleted.")
        if row.status == TurnStatus.RUNNING:
            if not row.stale:
                record_turn_replayed()
                return Attach(remote.subscribe(connection, parameters.user_id, row, command.after))
            close_stale(
                connection,
                user_id=parameters.user_id,
                conversation_id=row.conversation_id,
                turn_id=row.id,
                attempt=row.attempt,
                stale_seconds=parameters.stale_seconds,
            )
            continue
        if row.status == TurnStatus.COMPLETED:
            record_turn_replayed()
            return Attach(replay(connection, parameters.user_id, row, command.after))
        if full is not None:
            raise full
        start = _retry(connection, command, parameters, row, holders)
        if start is not None:
            return start
    raise ConversationBusy(retry_after=1)


def _retry(
    connection: Connection,
    command: ChatCommand,
    parameters: BeginParameters,
    row: Row[Any],
    holders: QuotaHolders,
) -> Start | None:
    """Begin a new attempt at the ended turn `row`; return None if its state may have changed."""
    pending = command.pending
    parameters = replace(parameters, conversation_id=row.conversation_id, position=row.position)
    last = sql.LAST_MESSAGE.one(connection, vars(parameters))
    if last is None:
        return None  # deleted
    if last.storage == ConversationStorage.BUNDLED:
        _restore(connection, parameters.user_id, row, last)
        return None
    if last.turn_id != row.id and not (pending and last.turn_id == pending.turn_id):
        raise ConversationAdvanced
    parameters = replace(parameters, next_position=last.next_position)
    if pending is not None:
        command = replace(command, pending=with_answers(connection, parameters.user_id, pending, row.id))
    in_quota = parameters.user_id in holders
    begun = execute_begin(connection, BeginKind.RETRY, parameters, in_quota=in_quota)
    if begun is not None:
        return Start(attempt_from(connection, command, parameters, begun))
    # The user has reached a limit, the session has ended, or a concurrent request retries the same turn.
    check_limits(connection, parameters, holders)
    return None


def _restore(connection: Connection, user_id: UUID, row: Row[Any], last: Row[Any]) -> None:
    """Restore the conversation from its bundle, unless later messages exist. Raises `ConversationAdvanced`."""
    bundle = archives.find(connection, user_id, row.conversation_id)
    if bundle is not None:
        newest = archives.message_at(bundle, last.next_position - 1)
        if newest is None or newest.turn_id != row.id:
            raise ConversationAdvanced
    archives.restore(connection, user_id, row.conversation_id)
