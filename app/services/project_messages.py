"""The messages of a project: those of its conversations, in the order in which the conversations were created."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from app.bounds import INTEGER_MAX
from app.enums import ConversationStorage
from app.models import Message
from app.repositories import projects
from app.repositories.messages import Order
from app.repositories.project_messages import PAGES
from app.services import archives
from app.services.bundles import Bundle
from app.services.projects import missing
from app.services.transactions import autocommit_session

Key = tuple[UUID, int]  # conversation and position

_ATTEMPTS = 3  # a conversation may be restored, and bundled again, between two statements


def page(user_id: UUID, project_id: UUID, *, order: Order, after: Key | None = None, limit: int) -> Sequence[Message]:
    """Return a page of messages, and one more if there is a next page; archived conversations are included.

    Within a conversation they are in order of position. Raises `NotFound` and `ArchiveDamaged`.
    """
    found: list[Message] = []
    while len(found) <= limit:
        rows, bundles = _read(user_id, project_id, order, after, limit + 1)
        for row in rows:
            if len(found) <= limit:
                found += _messages(user_id, row, bundles.get(row.conversation_id), order, after, limit + 1 - len(found))
        if len(rows) <= limit:  # no conversation is left
            break
        last: Any = rows[-1]
        after = (last.conversation_id, last.position or (INTEGER_MAX if order == "asc" else 0))
    return found


def _read(
    user_id: UUID, project_id: UUID, order: Order, after: Key | None, limit: int
) -> tuple[Sequence[Row[Any]], dict[UUID, Bundle]]:
    """Return the live messages of a page with a row for each bundled conversation, and the bundles of these."""
    conversation_id, position = after or (None, None)
    parameters = {
        "user_id": user_id,
        "project_id": project_id,
        "conversation_id": conversation_id,
        "position": position,
        "limit": limit,
    }
    for _ in range(_ATTEMPTS):
        with autocommit_session() as session:
            if projects.get(session, user_id, project_id) is None:
                raise missing()
            connection = session.connection()
            rows = PAGES[order].all(connection, parameters)
            found = {id_: archives.find(connection, user_id, id_) for id_ in _bundled(rows, conversation_id, limit)}
        bundles = {id_: bundle for id_, bundle in found.items() if bundle is not None}
        if len(bundles) == len(found):
            return rows, bundles
    raise archives.without_bundle(user_id, next(id_ for id_ in found if id_ not in bundles))


def _bundled(rows: Iterable[Row[Any]], begun: UUID | None, limit: int) -> Iterator[UUID]:
    """Yield the bundled conversations that fill a page. How much is left of the one that was begun is not known."""
    count = 0
    for row in rows:
        if count >= limit:
            return
        if row.storage == ConversationStorage.BUNDLED:
            yield row.conversation_id
            count += 0 if row.conversation_id == begun else row.message_count
        else:
            count += row.position is not None


def _messages(
    user_id: UUID, row: Any, bundle: Bundle | None, order: Order, after: Key | None, limit: int
) -> Sequence[Message]:
    """Return the live message of a row, or the messages of the bundle after that key."""
    if bundle is not None:
        position = after[1] if after and after[0] == row.conversation_id else None
        return archives.page(bundle, order=order, after=position, limit=limit)
    if row.position is None:  # a live conversation without a message after that key
        return ()
    columns = row._asdict()
    del columns["storage"], columns["message_count"]
    return [Message(user_id=user_id, meta=columns.pop("metadata"), **columns)]
