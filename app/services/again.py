"""The same request a second time: join the turn while it runs, tell a completed one again, run a failed one again."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from app.config import Chat
from app.errors import ConversationBusy, ConversationMovedOn, NotFound
from app.models import ConversationStorage
from app.models.turn import TurnStatus
from app.repositories import turns as sql
from app.services import archives
from app.services.begin import Begun, ChatCommand, Prior, begin_parameters, begun_from
from app.services.running_turn import ToldTurn
from app.services.stale import close_stale
from app.services.telling import retell
from app.services.turn_limits import QuotaHolders, make_room, take

_TRIES = 4  # each after something was found to be otherwise than it was thought to be


def again(
    connection: Connection,
    command: ChatCommand,
    prior: Prior,
    settings: Chat,
    default_provider: str,
    follow: Callable[[Row[Any]], ToldTurn],
    holders: QuotaHolders,
) -> Begun | ToldTurn:
    """What to do with the turn that `command`'s idempotency key already names; `connection` is in AUTOCOMMIT.

    A new attempt is `Begun`; a completed turn comes back as it ended; one that another process answers is followed.
    Raises `ConversationMovedOn` if it failed and later messages exist, `ArchiveDamaged` if its own cannot be restored,
    `TooManyTurns` and `QuotaExceeded`; `ConversationBusy` where it is something else each time that it is looked at.
    """
    parameters = {**begin_parameters(command, settings, default_provider), "turn_id": prior.turn_id}
    for _ in range(_TRIES):
        row = _turn(connection, parameters)
        if row.status == TurnStatus.RUNNING and row.stale:
            _close(connection, parameters, row)
            continue
        if row.status == TurnStatus.RUNNING:
            return follow(row)
        if row.status == TurnStatus.COMPLETED:
            return retell(connection, command.caller.user_id, row)
        place = {"position": row.position, "conversation_id": row.conversation_id}
        last = sql.LAST_MESSAGE.one(connection, {**parameters, **place})
        if last is None:
            continue  # deleted
        if last.storage == ConversationStorage.BUNDLED:
            _restore(connection, command.caller.user_id, row, last)
            continue
        if last.turn_id != row.id:
            raise ConversationMovedOn
        again = {**parameters, **place, "next_position": last.next_position}
        begun = take(connection, sql.BEGIN_AGAIN, again, holders)
        if begun is not None:
            return begun_from(connection, command.message, again, begun)
        # A limit is in the way; or others do the same at this moment, or have ended the session.
        make_room(connection, again, holders)
    raise ConversationBusy(retry_after=1)


def _close(connection: Connection, parameters: dict[str, Any], row: Row[Any]) -> None:
    """End a silent attempt, unless it has spoken again or somebody else was faster."""
    close_stale(
        connection,
        user_id=parameters["user_id"],
        conversation_id=row.conversation_id,
        turn_id=row.id,
        attempt=row.attempt,
        stale_seconds=parameters["stale_seconds"],
    )


def _restore(connection: Connection, user_id: UUID, row: Row[Any], last: Row[Any]) -> None:
    """Take the conversation out of its bundle, unless the turn cannot run again: what is refused changes nothing.

    Raises `ConversationMovedOn`.
    """
    bundle = archives.find(connection, user_id, row.conversation_id)
    if bundle is not None:
        newest = archives.message_at(bundle, last.next_position - 1)
        if newest is None or newest.turn_id != row.id:
            raise ConversationMovedOn
    archives.restore(connection, user_id, row.conversation_id)


def _turn(connection: Connection, parameters: dict[str, Any]) -> Row[Any]:
    row = sql.GET.one(connection, parameters)
    if row is None:
        raise NotFound("The conversation of this request has been deleted.")
    return row
