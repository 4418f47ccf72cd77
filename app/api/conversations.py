"""Conversations and their messages."""

from typing import Any
from uuid import UUID

from flask import url_for
from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.pagination import Pages
from app.api.schemas.conversations import (
    ALL,
    RELEVANCE,
    ConversationChange,
    ConversationPage,
    ConversationQuery,
    ConversationSchema,
)
from app.api.schemas.messages import MESSAGES, MessagePage, MessageQuery
from app.container import services
from app.enums import ConversationStatus
from app.errors import ArchiveDamaged, Conflict, ConversationBusy, NotFound, StorageLimitReached
from app.models import Conversation
from app.services import conversations
from app.services.search_query import parse

blueprint = Blueprint(
    "conversations",
    __name__,
    url_prefix="/api/conversations",
    access=Access.USER,
    description="Conversations and their messages",
)


@blueprint.route("")
class Conversations(MethodView):
    @blueprint.arguments(ConversationQuery, location="query")
    @blueprint.response(200, ConversationPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List conversations, the one with the newest message first."""
        pages: Pages = query.pop("pages")
        return pages.envelope(_listed(**query), query["limit"])

    @blueprint.arguments(ConversationChange)
    @blueprint.creates(ConversationSchema)
    @blueprint.raises(NotFound, StorageLimitReached)
    def post(self, body: dict[str, Any]) -> tuple[Conversation, dict[str, str]]:
        """Create an empty conversation."""
        created = conversations.create(caller().user_id, max_bytes=services().settings.chat.user_max_bytes, **body)
        return created, {"Location": url_for(".OneConversation", conversation_id=created.id)}


@blueprint.route("/<uuid:conversation_id>")
class OneConversation(MethodView):
    @blueprint.response(200, ConversationSchema)
    def get(self, conversation_id: UUID) -> Conversation:
        """Get a conversation without its messages."""
        return conversations.get(caller().user_id, conversation_id)

    @blueprint.arguments(ConversationChange)
    @blueprint.response(200, ConversationSchema)
    def patch(self, body: dict[str, Any], conversation_id: UUID) -> Conversation:
        """Change the title, the metadata or the project of a conversation."""
        return conversations.change(caller().user_id, conversation_id, **body)

    @blueprint.response(204)
    @blueprint.raises(Conflict, ConversationBusy)
    def delete(self, conversation_id: UUID) -> None:
        """Delete a conversation and its messages permanently."""
        conversations.delete(caller().user_id, conversation_id, stale_seconds=_stale_seconds())


@blueprint.route("/<uuid:conversation_id>/archive", methods=["POST"])
@blueprint.response(200, ConversationSchema)
@blueprint.raises(ConversationBusy)
def archive(conversation_id: UUID) -> Conversation:
    """Archive a conversation."""
    return conversations.archive(caller().user_id, conversation_id, stale_seconds=_stale_seconds())


@blueprint.route("/<uuid:conversation_id>/unarchive", methods=["POST"])
@blueprint.response(200, ConversationSchema)
@blueprint.raises(ConversationBusy, ArchiveDamaged)
def unarchive(conversation_id: UUID) -> Conversation:
    """Unarchive a conversation."""
    return conversations.unarchive(caller().user_id, conversation_id)


@blueprint.route("/<uuid:conversation_id>/messages")
@blueprint.arguments(MessageQuery, location="query")
@blueprint.response(200, MessagePage)
@blueprint.raises(ArchiveDamaged)
def messages(query: dict[str, Any], conversation_id: UUID) -> dict[str, Any]:
    """List the messages of a conversation, from the oldest or from the newest."""
    rows = conversations.page_of_messages(caller().user_id, conversation_id, **query)
    return MESSAGES.envelope(rows, query["limit"])


def _listed(q: str | None, sort: str, status: str, **query: Any) -> list[conversations.Listed]:
    chosen = None if status == ALL else ConversationStatus(status)
    if q is None:
        return conversations.page(caller().user_id, status=chosen, **query)
    return conversations.search(caller().user_id, parse(q), by_rank=sort == RELEVANCE, status=chosen, **query)


def _stale_seconds() -> int:
    return services().settings.chat.stale_seconds
