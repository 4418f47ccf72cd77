"""What an owner does with conversations beside talking in them.

Renaming, setting metadata, moving to a project and archiving leave `updated_at` alone: it says when the last message
came, and by it the list is ordered; tidying up must not shuffle the list.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from app.errors import Conflict, ConversationBusy, NotFound
from app.models import Conversation, ConversationStatus, ConversationStorage, Message
from app.repositories import conversations, messages, search
from app.services import archives
from app.services.container import services
from app.services.removal import remove
from app.services.search_requests import request_index
from app.services.transactions import statements

_ATTEMPTS = 3  # an attempt may end, and the next begin, between our two statements
T = TypeVar("T")


def _missing() -> NotFound:
    return NotFound("There is no such conversation.")


def page(
    user_id: UUID,
    *,
    status: str,
    project_id: UUID | None = None,
    q: str | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int,
) -> Sequence[Conversation]:
    """A page, newest updated first, and one more where there is one; with `q`, of those found by its words.

    A project of nobody's has no conversations. A conversation is found some seconds after its turn.
    """
    with statements() as session:
        return conversations.page(
            session,
            user_id,
            status=ConversationStatus(status),
            project_id=project_id,
            found=search.matching(user_id, search.words_of(q)) if q is not None else None,
            after=after,
            limit=limit + 1,
        )


def create(user_id: UUID, **values: Any) -> Conversation:
    """A new, empty conversation from `title`, `project_id`, `meta`. Raises `NotFound` for an unknown project."""
    with statements() as session:
        created = conversations.add(session, user_id, values)
    if created.title is not None:
        request_index(user_id, created.id)
    return created


def get(user_id: UUID, conversation_id: UUID) -> Conversation:
    """That conversation. Raises `NotFound`."""
    with statements() as session:
        found = conversations.get(session, user_id, conversation_id)
    if found is None:
        raise _missing()
    return found


def change(user_id: UUID, conversation_id: UUID, **values: Any) -> Conversation:
    """Set `title`, `project_id` or `meta`, which is replaced whole. Raises `NotFound`, for the project as well."""
    if not values:
        return get(user_id, conversation_id)
    with statements() as session:
        changed = conversations.change(session, user_id, conversation_id, values)
    if changed is None:
        raise _missing()
    if "title" in values:
        request_index(user_id, conversation_id)
    return changed


def archive(user_id: UUID, conversation_id: UUID) -> Conversation:
    """List it under `archived`; again is no error. Raises `NotFound`, or `ConversationBusy` while a turn runs."""
    return _when_idle(
        user_id,
        conversation_id,
        lambda session, stale: conversations.archive(session, user_id, conversation_id, stale),
    )


def unarchive(user_id: UUID, conversation_id: UUID) -> Conversation:
    """List it under `active`, its messages in the live table; again is no error.

    Raises `NotFound`, `ArchiveDamaged`, and `ConversationBusy` where it is being archived or restored for long.
    """
    with statements() as session:
        for _ in range(_ATTEMPTS):
            changed = conversations.unarchive(session, user_id, conversation_id)
            if changed is not None:
                return changed
            if conversations.get(session, user_id, conversation_id) is None:
                raise _missing()
            archives.restore(session.connection(), user_id, conversation_id)
    raise ConversationBusy(retry_after=1)


def delete(user_id: UUID, conversation_id: UUID) -> None:
    """Delete it with its messages and turns, for good.

    Raises `NotFound`; `Conflict` while it is under a legal hold; `ConversationBusy` while a turn runs, because its
    answer would be paid for and lost.
    """
    _when_idle(
        user_id,
        conversation_id,
        lambda session, stale: remove(session, user_id, conversation_id, stale),
        held_back=True,
    )


def page_of_messages(
    user_id: UUID, conversation_id: UUID, *, order: messages.Order, after: tuple[int] | None = None, limit: int
) -> Sequence[Message]:
    """A page of its messages in this order, and one more where there is one. Raises `NotFound`, `ArchiveDamaged`."""
    position = after[0] if after else None
    with statements() as session:
        for _ in range(_ATTEMPTS):
            found = messages.page(session, user_id, conversation_id, order=order, after=position, limit=limit + 1)
            if found is None:
                raise _missing()
            storage, page = found
            if storage == ConversationStorage.LIVE:
                return page
            bundle = archives.find(session.connection(), user_id, conversation_id)
            if bundle is not None:
                break
        else:
            raise archives.without_bundle(user_id, conversation_id)
    return archives.page(bundle, order=order, after=position, limit=limit + 1)


def _when_idle(
    user_id: UUID,
    conversation_id: UUID,
    act: Callable[[Session, UUID | None], T | None],
    *,
    held_back: bool = False,
) -> T:
    """Do `act`, one statement that gives None where the lease, or a hold if `held_back`, forbids it, or say why not.

    `act` checks the lease on the row it locks, so no turn slips in. Only where it refused do we ask for the reason; a
    lease found stale is named in the next try, which then passes that one and no other.
    """
    stale_seconds = services().settings.chat.stale_seconds
    stale: UUID | None = None
    with statements() as session:
        for _ in range(_ATTEMPTS):
            done = act(session, stale)
            if done is not None:
                return done
            found = conversations.lease(session, user_id, conversation_id, stale_seconds)
            if found is None:
                raise _missing()
            if held_back and found.legal_hold:
                raise Conflict("This conversation is under a legal hold and cannot be deleted until it is lifted.")
            if found.running_attempt is not None and not found.stale:
                break
            stale = found.running_attempt
    raise ConversationBusy(retry_after=1)
