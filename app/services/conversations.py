"""Management of a user's conversations, outside of their turns.

Renaming, metadata, moving to a project and archiving do not change `updated_at`, which is the time of the last message:
the list is ordered by it and must not be reordered by them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from app.enums import ConversationStatus, ConversationStorage
from app.errors import Conflict, ConversationBusy, NotFound
from app.models import Conversation, Message
from app.repositories import conversations, messages
from app.repositories.search import matching, rank
from app.services import archives
from app.services.conversation_deletion import remove
from app.services.search_hits import Hit, find_hits
from app.services.search_query import SearchQuery
from app.services.search_requests import request_index
from app.services.stored_bytes import check_limit
from app.services.transactions import autocommit_session


@dataclass(frozen=True, slots=True)
class Listed:
    """A conversation in a list; in a search with its rank and, where a message matches, the hit."""

    conversation: Conversation
    rank: float = 0.0
    hit: Hit | None = None


_ATTEMPTS = 3  # an attempt may end, and the next one begin, between two statements
T = TypeVar("T")


def _missing() -> NotFound:
    return NotFound("There is no such conversation.")


def page(
    user_id: UUID,
    *,
    status: ConversationStatus | None,
    project_id: UUID | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[Listed]:
    """Return a page, newest update first, and one more where there is one. `status` None is every status.

    A project that is not the user's has no conversations.
    """
    with autocommit_session() as session:
        rows = conversations.page(session, user_id, status=status, project_id=project_id, after=after, limit=limit + 1)
    return [Listed(conversation) for conversation in rows]


def search(
    user_id: UUID,
    query: SearchQuery,
    *,
    by_rank: bool = False,
    status: ConversationStatus | None,
    project_id: UUID | None = None,
    after: tuple[Any, ...] | None = None,
    limit: int,
) -> list[Listed]:
    """Return a page of the conversations that `query` finds, with their hits, and one more where there is one.

    Best rank first, or newest update first. A new message is found some seconds after its turn.
    """
    wanted = " | ".join(clause.tsquery for clause in query.wanted)
    with autocommit_session() as session:
        rows = conversations.found_page(
            session,
            user_id,
            status=status,
            project_id=project_id,
            matching=matching(
                user_id, [[(clause.tsquery, clause.excluded) for clause in clauses] for clauses in query.alternatives]
            ),
            rank=rank(user_id, wanted) if by_rank and wanted else None,
            after=after,
            limit=limit + 1,
        )
        hits = find_hits(session.connection(), user_id, [row[0] for row in rows[:limit]], query)
    return [Listed(conversation, rank=score, hit=hits.get(conversation.id)) for conversation, score in rows]


def create(user_id: UUID, *, max_bytes: int = 0, **values: Any) -> Conversation:
    """Create an empty conversation with `title`, `project_id`, `meta`. `max_bytes` is USER_MAX_BYTES.

    Raises `NotFound` for an unknown project, and `StorageLimitReached`.
    """
    with autocommit_session() as session:
        check_limit(session.connection(), user_id, max_bytes)
        created = conversations.add(session, user_id, values)
    if created.title is not None:
        request_index(user_id, created.id)
    return created


def get(user_id: UUID, conversation_id: UUID) -> Conversation:
    """Return a conversation. Raises `NotFound`."""
    with autocommit_session() as session:
        conversation = conversations.get(session, user_id, conversation_id)
    if conversation is None:
        raise _missing()
    return conversation


def change(user_id: UUID, conversation_id: UUID, **values: Any) -> Conversation:
    """Change `title`, `project_id` or `meta`, which is replaced. Raises `NotFound`, for an unknown project too."""
    if not values:
        return get(user_id, conversation_id)
    with autocommit_session() as session:
        changed = conversations.change(session, user_id, conversation_id, values)
    if changed is None:
        raise _missing()
    if "title" in values:
        request_index(user_id, conversation_id)
    return changed


def archive(user_id: UUID, conversation_id: UUID, *, stale_seconds: int) -> Conversation:
    """Set the status `archived`; repeating it is no error. Raises `NotFound`, and `ConversationBusy` during a turn."""
    return _when_idle(
        user_id,
        conversation_id,
        lambda session, stale: conversations.archive(session, user_id, conversation_id, stale),
        stale_seconds=stale_seconds,
    )


def unarchive(user_id: UUID, conversation_id: UUID) -> Conversation:
    """Set the status `active`, and restore bundled messages; repeating it is no error.

    Raises `NotFound`, `ArchiveDamaged`, `Locked`, and `ConversationBusy` if it is bundled again and again.
    """
    with autocommit_session() as session:
        for _ in range(_ATTEMPTS):
            changed = conversations.unarchive(session, user_id, conversation_id)
            if changed is not None:
                return changed
            if conversations.get(session, user_id, conversation_id) is None:
                raise _missing()
            archives.restore(session.connection(), user_id, conversation_id)
    raise ConversationBusy(retry_after=1)


def delete(user_id: UUID, conversation_id: UUID, *, stale_seconds: int) -> None:
    """Delete a conversation with its messages and turns.

    Raises `NotFound`; `Conflict` under a legal hold; `ConversationBusy` during a turn, because its answer would be paid
    for and lost.
    """
    _when_idle(
        user_id,
        conversation_id,
        lambda session, stale: remove(session, user_id, conversation_id, stale),
        stale_seconds=stale_seconds,
        checks_hold=True,
    )


def page_of_messages(
    user_id: UUID, conversation_id: UUID, *, order: messages.Order, after: tuple[int] | None = None, limit: int
) -> Sequence[Message]:
    """Return a page of messages in this order, and one more if there is a next page.

    Raises `NotFound` and `ArchiveDamaged`.
    """
    position = after[0] if after else None
    with autocommit_session() as session:
        for _ in range(_ATTEMPTS):
            result = messages.page(session, user_id, conversation_id, order=order, after=position, limit=limit + 1)
            if result is None:
                raise _missing()
            storage, page = result
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
    stale_seconds: int,
    checks_hold: bool = False,
) -> T:
    """Run `act`, one statement that returns None if the lease, or a legal hold with `checks_hold`, prevents it.

    `act` checks the lease on the row that it locks, so no turn can begin before it. The reason is read only after
    None. A stale lease is passed to the next try, which ignores that lease and no other.
    """
    stale: UUID | None = None
    with autocommit_session() as session:
        for _ in range(_ATTEMPTS):
            result = act(session, stale)
            if result is not None:
                return result
            lease = conversations.lease(session, user_id, conversation_id, stale_seconds)
            if lease is None:
                raise _missing()
            if checks_hold and lease.legal_hold:
                raise Conflict("This conversation is under a legal hold and cannot be deleted until it is lifted.")
            if lease.running_attempt is not None and not lease.stale:
                break
            stale = lease.running_attempt
    raise ConversationBusy(retry_after=1)
