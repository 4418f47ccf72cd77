"""**begin**: take the conversation, store the user's message and a running turn, read what the provider needs.

One statement when all is well. When it takes nothing, one diagnosis says why, in the order of turn.md: the session or
API key has ended, the idempotency key was used before, there is no such conversation, it is archived in a bundle, a
silent attempt holds it, a live one does; the user has used up a limit.
"""

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.config import Chat
from app.errors import (
    ConversationBusy,
    DatabaseUnavailable,
    IdempotencyMismatch,
    NotAuthenticated,
    NotFound,
    ParleyError,
    TooManyTurns,
)
from app.models import ConversationStorage, KeyScope
from app.models.columns import new_id
from app.providers.base import ChatMessage
from app.repositories import turns as sql
from app.services import api_keys, archives
from app.services.context import build_context
from app.services.identity import Identity
from app.services.narration import Narration
from app.services.running_turn import RunningTurn
from app.services.stale import close_stale
from app.services.titles import preview_of, title_of
from app.services.turn_limits import SLOTS, QuotaHolders, make_room, take

_TRIES = 4  # of taking the conversation, each after having closed a silent attempt or lost a race


@dataclass(frozen=True, slots=True)
class ChatCommand:
    """What somebody asks. Without `conversation_id` a new conversation begins, in `project_id` if that is given.

    `provider` and `model` None mean the project's choice, or the operator's.
    """

    caller: Identity
    message: str
    conversation_id: UUID | None = None
    project_id: UUID | None = None
    provider: str | None = None
    model: str | None = None
    idempotency_key: str | None = None

    def request_hash(self) -> bytes:
        """SHA-256 of what is asked; how the answer is delivered is left out."""
        asked = [self.message, self.conversation_id, self.project_id, self.provider, self.model]
        return hashlib.sha256(orjson.dumps(asked)).digest()


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that this process now owns, and what to show the provider.

    `replaceable`: the request names neither provider nor model, so that another one may answer if the chosen one fails.
    `failure`: the turn has begun, and cannot go on: nobody is to be asked.
    """

    turn: RunningTurn
    context: list[ChatMessage]
    options: dict[str, Any] = field(default_factory=dict)
    replaceable: bool = False
    failure: ParleyError | None = None


@dataclass(frozen=True, slots=True)
class Prior:
    """The id of the turn that the idempotency key was used for, with the same request."""

    turn_id: UUID


def begin(
    connection: Connection, command: ChatCommand, settings: Chat, default_provider: str, holders: QuotaHolders
) -> Begun | Prior:
    """Begin a turn on an AUTOCOMMIT connection.

    Raises `NotAuthenticated`, `IdempotencyMismatch`, `NotFound`, `ConversationBusy`, `ArchiveDamaged`, `TooManyTurns`
    and `QuotaExceeded`.
    """
    parameters = begin_parameters(command, settings, default_provider)
    statement = sql.BEGIN if command.conversation_id else sql.BEGIN_NEW
    for _ in range(_TRIES):
        try:
            row = take(connection, statement, parameters, holders)
        except IntegrityError as error:
            constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
            if constraint == "fk_conversations_projects":
                raise NotFound("There is no such project.") from None
            if constraint == "fk_conversations_users":
                raise NotAuthenticated("The account has been deleted.") from None
            if constraint != "uq_turns_idempotency_key":
                raise
            row = None  # the same request, begun twice at once: the diagnosis finds the other
        if row is not None:
            return begun_from(connection, command.message, parameters, row)
        prior = _diagnose(connection, command, parameters)
        if prior is not None:
            return prior
        make_room(connection, parameters, holders)
    # A new conversation is nobody's: it can only have been a place that others were faster to take.
    raise ConversationBusy(retry_after=1) if command.conversation_id else TooManyTurns(retry_after=1)


def begin_parameters(command: ChatCommand, settings: Chat, default_provider: str) -> dict[str, Any]:
    """What the begin statements take, with fresh ids for whatever may be made."""
    key = command.caller.key
    return {
        "user_id": command.caller.user_id,
        "session_id": command.caller.session_id,
        "key_id": key.id if key else None,
        "key_hash": key.hash if key else None,
        "conversation_id": command.conversation_id or new_id(),
        "project_id": command.project_id,
        "turn_id": new_id(),
        "attempt": new_id(),
        "idempotency_key": command.idempotency_key,
        "request_hash": command.request_hash() if command.idempotency_key else None,
        "content": command.message,
        "title": title_of(command.message),
        "preview": preview_of(command.message),
        "provider": command.provider,
        "model": command.model,
        "default_provider": default_provider,
        "history": settings.history_messages,
        "history_chars": settings.history_chars,
        "stale_seconds": settings.stale_seconds,
        "max_running": settings.max_running_per_user,
        "lucky": random.randrange(SLOTS),  # noqa: S311  # no secret
        "output_tokens": settings.quota_output_tokens,
    }


def begun_from(connection: Connection, message: str, parameters: dict[str, Any], row: Row[Any]) -> Begun:
    """The turn that a begin statement has just begun."""
    history, failure = row.history, None
    if parameters["history"] and row.position > 1 and row.newest != row.position - 1:
        # It waited for the row's lock: the answer committed meanwhile is not in this statement's snapshot.
        try:
            reread = sql.REREAD.one(connection, {**parameters, "position": row.position})
            history = reread.history if reread else None
        except DBAPIError:  # whoever holds the conversation must also let go of it, so this is not raised from here
            failure = DatabaseUnavailable("The conversation could not be read; send the message again.", retry_after=1)
    turn = RunningTurn(
        user_id=parameters["user_id"],
        id=parameters["turn_id"],
        conversation_id=parameters["conversation_id"],
        attempt=parameters["attempt"],
        position=row.position,
        provider=row.provider,
        model=row.model,
        started_at=row.started_at,
        tokens_sent=None if row.quota_tokens is None else max(0, row.quota_tokens - parameters["output_tokens"]),
        title=row.title,
        narration=Narration(after=row.last_sequence or 0),
    )
    replaceable = parameters["provider"] is None and parameters["model"] is None
    context = build_context(row.prompts, history, message)
    return Begun(turn, context, row.project_settings or {}, replaceable, failure)


def _diagnose(connection: Connection, command: ChatCommand, parameters: dict[str, Any]) -> Prior | None:
    """Raise what is in the way, or clear it and return None: try again."""
    by_key = command.caller.key is not None
    found = sql.called(sql.DIAGNOSE, by_key=by_key).one(connection, parameters)
    assert found is not None  # noqa: S101  # it selects from one constant row
    if not found.session_live:
        if by_key:
            api_keys.verify(connection, command.caller, KeyScope.CHAT)  # raises, in words that fit
            return None  # its account was enabled between the two statements
        raise NotAuthenticated("The session has ended; log in again.")
    if found.prior_id is not None:
        if bytes(found.prior_hash) != parameters["request_hash"]:
            raise IdempotencyMismatch
        return Prior(found.prior_id)
    if found.other_request:
        raise IdempotencyMismatch
    if command.conversation_id is None:
        return None  # the session was opened between the two statements
    if found.found is None:
        raise NotFound("There is no such conversation.")
    if found.storage == ConversationStorage.BUNDLED:
        archives.restore(connection, command.caller.user_id, found.found)
        return None
    if found.running_attempt is None:
        return None  # it was released between the two statements
    if not found.stale:
        raise ConversationBusy(retry_after=1)
    if found.running_id is None:
        lost = {"conversation_id": found.found, "attempt": found.running_attempt}
        sql.RELEASE.one(connection, {"user_id": command.caller.user_id, **lost})
        return None
    close_stale(
        connection,
        user_id=command.caller.user_id,
        conversation_id=found.found,
        turn_id=found.running_id,
        attempt=found.running_attempt,
        stale_seconds=parameters["stale_seconds"],
    )
    return None
