"""Conversations and their messages."""

from typing import Any
from uuid import UUID

from flask import url_for
from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.pagination import Pages
from app.api.schemas.conversations import (
    ConversationChange,
    ConversationPage,
    ConversationQuery,
    ConversationSchema,
)
from app.api.schemas.messages import MESSAGES, MessagePage, MessageQuery
from app.errors import ArchiveDamaged, Conflict, ConversationBusy, NotFound
from app.models import Conversation
from app.services import conversations

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
        """Your conversations, the one with the newest message first"""
        pages: Pages = query.pop("pages")
        return pages.envelope(conversations.page(caller().user_id, **query), query["limit"])

    @blueprint.arguments(ConversationChange)
    @blueprint.creates(ConversationSchema)
    @blueprint.raises(NotFound)
    def post(self, body: dict[str, Any]) -> tuple[Conversation, dict[str, str]]:
        """A new, empty conversation"""
        created = conversations.create(caller().user_id, **body)
        return created, {"Location": url_for(".OneConversation", conversation_id=created.id)}


@blueprint.route("/<uuid:conversation_id>")
class OneConversation(MethodView):
    @blueprint.response(200, ConversationSchema)
    def get(self, conversation_id: UUID) -> Conversation:
        """A conversation without its messages"""
        return conversations.get(caller().user_id, conversation_id)

    @blueprint.arguments(ConversationChange)
    @blueprint.response(200, ConversationSchema)
    def patch(self, body: dict[str, Any], conversation_id: UUID) -> Conversation:
        """Rename a conversation, set its metadata or move it to a project"""
        return conversations.change(caller().user_id, conversation_id, **body)

    @blueprint.response(204)
    @blueprint.raises(Conflict, ConversationBusy)
    def delete(self, conversation_id: UUID) -> None:
        """Delete a conversation and its messages for good"""
        conversations.delete(caller().user_id, conversation_id)


@blueprint.route("/<uuid:conversation_id>/archive", methods=["POST"])
@blueprint.response(200, ConversationSchema)
@blueprint.raises(ConversationBusy)
def archive(conversation_id: UUID) -> Conversation:
    """Move a conversation to the archived ones"""
    return conversations.archive(caller().user_id, conversation_id)


@blueprint.route("/<uuid:conversation_id>/unarchive", methods=["POST"])
@blueprint.response(200, ConversationSchema)
@blueprint.raises(ConversationBusy, ArchiveDamaged)
def unarchive(conversation_id: UUID) -> Conversation:
    """Move a conversation back to the active ones"""
    return conversations.unarchive(caller().user_id, conversation_id)


@blueprint.route("/<uuid:conversation_id>/messages")
@blueprint.arguments(MessageQuery, location="query")
@blueprint.response(200, MessagePage)
@blueprint.raises(ArchiveDamaged)
def messages(query: dict[str, Any], conversation_id: UUID) -> dict[str, Any]:
    """The messages of a conversation, from the oldest or from the newest"""
    rows = conversations.page_of_messages(caller().user_id, conversation_id, **query)
    return MESSAGES.envelope(rows, query["limit"])
