"""Conversations as documents: out, to keep or to read, and in again."""

from typing import Any
from uuid import UUID

from flask import Response, url_for
from flask.views import MethodView
from sqlalchemy import Row

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.download import ATTACHMENT, streamed
from app.api.schemas.conversations import ConversationSchema
from app.api.schemas.exports import ExportQuery, ExportSchema
from app.errors import ArchiveDamaged, Conflict
from app.services.exports import FORMATS, open_export
from app.services.imports import import_conversation

blueprint = Blueprint(
    "exports",
    __name__,
    url_prefix="/api/conversations",
    access=Access.USER,
    description="Conversations as documents",
)


@blueprint.route("/<uuid:conversation_id>/export")
class Export(MethodView):
    @blueprint.arguments(ExportQuery, location="query")
    @blueprint.response(200, ExportSchema, headers=ATTACHMENT)
    @blueprint.alt_response(
        200,
        schema={"type": "string"},
        content_type="text/markdown",
        description="The conversation. A document that ends early is cut off, not complete.",
        headers=ATTACHMENT,
        success=True,
    )
    @blueprint.raises(Conflict, ArchiveDamaged)
    def get(self, query: dict[str, Any], conversation_id: UUID) -> Response:
        """A conversation with all its messages as one document, streamed"""
        export, wanted = open_export(caller().user_id, conversation_id), FORMATS[query["format"]]
        return streamed(wanted.write(export), export.filename(wanted.extension), wanted.media_type)


@blueprint.route("/import")
class Import(MethodView):
    @blueprint.arguments(ExportSchema)
    @blueprint.creates(ConversationSchema)
    def post(self, body: dict[str, Any]) -> tuple[Row[Any], dict[str, str]]:
        """A new conversation from an exported document"""
        kept = {name: body["conversation"][name] for name in ("title", "status", "meta")}
        created = import_conversation(caller().user_id, messages=body["messages"], **kept)
        return created, {"Location": url_for("conversations.OneConversation", conversation_id=created.id)}
