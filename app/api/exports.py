"""Export and import of conversations as documents."""

from typing import Any
from uuid import UUID

from flask import Response, url_for
from flask.views import MethodView
from sqlalchemy import Row

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.download import ATTACHMENT, MARKDOWN, streamed
from app.api.in_flight import hold_stream
from app.api.schemas.conversations import ConversationSchema
from app.api.schemas.exports import ExportQuery, ExportSchema
from app.container import services
from app.errors import (
    ArchiveDamaged,
    Conflict,
    Overloaded,
    StorageFull,
    StorageLimitReached,
    TooManyStreams,
)
from app.services.exports import FORMATS, open_export
from app.services.imports import import_conversation

blueprint = Blueprint(
    "exports",
    __name__,
    url_prefix="/api/conversations",
    access=Access.USER,
    description="Export and import of conversations",
)


@blueprint.route("/<uuid:conversation_id>/export")
class Export(MethodView):
    @blueprint.arguments(ExportQuery, location="query")
    @blueprint.response(200, ExportSchema, headers=ATTACHMENT)
    @blueprint.alt_response(200, **MARKDOWN, success=True)
    @blueprint.raises(Conflict, ArchiveDamaged, TooManyStreams, Overloaded)
    def get(self, query: dict[str, Any], conversation_id: UUID) -> Response:
        """Export a conversation with all its messages as one streamed document."""
        hold_stream()
        export, format_ = open_export(caller().user_id, conversation_id), FORMATS[query["format"]]
        return streamed(format_.write(export), export.filename(format_.extension), format_.media_type)


@blueprint.route("/import")
class Import(MethodView):
    @blueprint.arguments(ExportSchema)
    @blueprint.creates(ConversationSchema)
    @blueprint.raises(StorageLimitReached, StorageFull)
    def post(self, body: dict[str, Any]) -> tuple[Row[Any], dict[str, str]]:
        """Import a conversation from an exported document."""
        values = {name: body["conversation"][name] for name in ("title", "status", "meta")}
        services().room.check()
        max_bytes = services().settings.chat.user_max_bytes
        created = import_conversation(caller().user_id, messages=body["messages"], max_bytes=max_bytes, **values)
        return created, {"Location": url_for("conversations.OneConversation", conversation_id=created.id)}
