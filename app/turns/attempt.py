"""A chat request, and the attempt at a turn that begins with it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from app.config import Chat
from app.errors import DatabaseUnavailable
from app.ids import new_id
from app.providers.base import ChatMessage
from app.repositories.turn_begin import BeginParameters, new_slot_seed
from app.repositories.turn_history import REREAD_HISTORY
from app.services.file_references import FIELD, FileReference, parse_references
from app.services.identity import Identity
from app.services.titles import preview_of, title_of
from app.turns.context import build_context, build_pending_context
from app.turns.event_buffer import TurnEventBuffer
from app.turns.options import history_of, merged_options
from app.turns.pending import PendingCalls
from app.turns.prompts import prompt_texts, prompt_versions
from app.turns.stream import RunningTurn, TurnError


@dataclass(frozen=True, slots=True)
class ChatCommand:
    """A chat request. Without `conversation_id` it begins a new conversation, in the project `project_id` if set.

    If `provider` and `model` are None, the project's are used, else the operator's. `is_stream`: the caller reads the
    event stream, and has its events up to the sequence `after`, if it repeats a request to resume it.
    """

    caller: Identity
    message: str
    conversation_id: UUID | None = None
    project_id: UUID | None = None
    provider: str | None = None
    model: str | None = None
    idempotency_key: str | None = None
    is_stream: bool = False
    after: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)  # of this turn only, see `turns.options`
    default_models: Mapping[str, str] = field(default_factory=dict)  # by provider, for the prompts' variables
    pending: PendingCalls | None = None  # calls that the user approves or declines; then there is no message
    files: tuple[UUID, ...] = ()  # attached to the message

    def request_hash(self) -> bytes:
        """Return the SHA-256 of the request, without the way in which the answer is delivered."""
        content: list[Any] = [self.message, self.conversation_id, self.project_id, self.provider, self.model]
        if self.pending is not None:
            content += [self.pending.turn_id, sorted(self.pending.approved)]
        if self.options:
            content.append(self.options)
        if self.files:
            content.append({"files": self.files})
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()


@dataclass(frozen=True, slots=True)
class AttachedFiles:
    """The files of an attempt: of the message itself, of earlier ones in the window, and whether the project has any.

    Earlier ones are the newest first.
    """

    own: Sequence[FileReference]
    earlier: Sequence[FileReference]
    of_project: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """A turn that this process runs, and the request to its provider.

    `replaceable`: the request names neither provider nor model, so another provider may answer if the first one fails.
    `failure`: the turn has begun but cannot continue; the provider is not asked. `pending` are calls of an earlier turn
    with which this one begins; the context ends with them. `scopes`: of the caller's API key; None for a session.
    `files` are to be added to the context, None without any; `metadata` is what the answer's metadata then says of
    them.
    """

    turn: RunningTurn
    context: list[ChatMessage]
    options: dict[str, Any] = field(default_factory=dict)
    replaceable: bool = False
    failure: TurnError | None = None
    pending: PendingCalls | None = None
    scopes: frozenset[str] | None = None
    files: AttachedFiles | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def begin_parameters(
    command: ChatCommand,
    settings: Chat,
    default_provider: str,
    files_chars: int = 0,
    references: Sequence[dict[str, Any]] = (),
) -> BeginParameters:
    """Return the parameters of the begin statements, with new ids for the rows that they may insert.

    `references` are those of the command's files that exist.
    """
    key = command.caller.key
    return BeginParameters(
        user_id=command.caller.user_id,
        session_id=command.caller.session_id,
        key_id=key.id if key else None,
        key_hash=key.hash if key else None,
        conversation_id=command.conversation_id or new_id(),
        project_id=command.project_id,
        turn_id=new_id(),
        attempt=new_id(),
        idempotency_key=command.idempotency_key,
        request_hash=command.request_hash() if command.idempotency_key else None,
        content=command.message,
        file_ids=list(command.files),
        title=title_of(command.message),
        preview=preview_of(command.message),
        provider=command.provider,
        model=command.model,
        default_provider=default_provider,
        history=history_of(None, command.options, settings.history_messages),
        project_history="history" not in command.options,
        history_chars=settings.history_chars,
        stale_seconds=settings.stale_seconds,
        max_running=settings.max_running_per_user,
        max_bytes=settings.user_max_bytes,
        output_tokens=settings.quota_reserved_output_tokens,
        message_metadata=_message_metadata(command, references),
        files_chars=files_chars,
        slot_seed=new_slot_seed(),
        next_position=command.pending.next_position if command.pending else None,
    )


def attempt_from(connection: Connection, command: ChatCommand, parameters: BeginParameters, row: Row[Any]) -> Attempt:
    """Return the attempt that a begin statement with these parameters began; `row` is its result."""
    history, failure, pending = row.history, None, command.pending
    messages = history_of(row.project_settings, command.options, parameters.history)
    if messages and row.position > 1 and row.newest != row.position - 1:
        # The begin waited for the row lock, so its snapshot lacks the answer that was committed during the wait.
        try:
            place = {"position": row.position, "history": messages}
            reread = REREAD_HISTORY.one(connection, {**vars(parameters), **place})
            history = reread.history if reread else None
        except DBAPIError:  # not raised, because the attempt holds the lease and must end
            error = DatabaseUnavailable("The conversation could not be read; send the message again.", retry_after=1)
            failure = TurnError.of(error)
    turn = RunningTurn(
        user_id=parameters.user_id,
        id=parameters.turn_id,
        conversation_id=parameters.conversation_id,
        attempt=parameters.attempt,
        position=row.position,
        provider=row.provider,
        model=row.model,
        started_at=row.started_at,
        project_id=row.project_id,
        tokens_sent=None if row.quota_tokens is None else max(0, row.quota_tokens - parameters.output_tokens),
        title=row.title,
        events=TurnEventBuffer(after=row.last_sequence or 0),
        answer_metadata=prompt_versions(row.prompts),
    )
    if pending is not None and command.options:  # there is no message of the user that has them
        turn.answer_metadata["options"] = command.options
    replaceable = parameters.provider is None and parameters.model is None
    prompts = prompt_texts(
        row.prompts,
        at=row.started_at,
        provider=row.provider,
        model=row.model or command.default_models.get(row.provider),
    )
    if pending is not None:
        context = build_pending_context(prompts, history, pending.message())
    else:
        context = build_context(prompts, history, parameters.content)
    options = merged_options(row.project_settings, command.options)
    scopes = None if parameters.key_id is None else frozenset(row.key_scopes)
    files = _attached_files(row, history or ())
    return Attempt(turn, context, options, replaceable, failure, pending, scopes, files)


def _message_metadata(command: ChatCommand, references: Sequence[dict[str, Any]]) -> str:
    options = {"options": command.options} if command.options else {}
    return orjson.dumps({**options, **({FIELD: references} if references else {})}).decode()


def _attached_files(row: Row[Any], history: Sequence[Mapping[str, Any]]) -> AttachedFiles | None:
    own = parse_references(row.files)
    of_users = (item["files"] for item in reversed(history) if item["role"] == "user" and item["files"])
    earlier = [reference for value in of_users for reference in parse_references(value)]
    return AttachedFiles(own, earlier, row.has_files) if own or earlier or row.has_files else None
