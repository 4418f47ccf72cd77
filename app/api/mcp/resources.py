"""The caller's conversations as resources, in Markdown.

    parley://conversations/{conversation_id}            from its first message
    parley://conversations/{conversation_id}?after=200  from the message after position 200

A long conversation is read in parts: each ends with the URI of the next one.
"""

import re
from collections.abc import Iterator, Sequence
from uuid import UUID

from mcp_types import Annotations, Resource, ResourceTemplate, TextResourceContents

from app.api.mcp.offer import Contents
from app.api.schemas.conversations import CONVERSATIONS
from app.bounds import INTEGER_MAX
from app.enums import ConversationStatus
from app.errors import NotFound
from app.models import Conversation, Message
from app.services import conversations, markdown
from app.services.bundles import BundledMessage

PAGE = 50  # conversations
MAX_MESSAGES = 200  # of one part
MAX_CHARACTERS = 200_000  # of the messages of one part; it has at least one message
_MEDIA_TYPE = "text/markdown"
_BASE = "parley://conversations/"
_URI = re.compile(rf"{_BASE}([0-9a-f-]{{36}})(?:\?after=([0-9]{{1,10}}))?")


class ConversationResources:
    """The conversations of a user. Lists have those that are not archived; all can be read."""

    def page(self, user_id: UUID, cursor: str | None) -> tuple[Sequence[Resource], str | None]:
        """Return a page, the conversation with the newest message first."""
        after = None if cursor is None else CONVERSATIONS.decode(cursor)
        rows = conversations.page(user_id, status=ConversationStatus.ACTIVE, after=after, limit=PAGE)
        page = CONVERSATIONS.envelope(rows, PAGE)
        return [_resource(item.conversation) for item in page["items"]], page["next_cursor"]

    def templates(self) -> Sequence[ResourceTemplate]:
        return [
            ResourceTemplate(
                uri_template=f"{_BASE}{{conversation_id}}{{?after}}",
                name="conversation",
                title="Conversation",
                description="Messages of one of your conversations, after the position `after` if it is given.",
                mime_type=_MEDIA_TYPE,
            )
        ]

    def read(self, user_id: UUID, uri: str) -> Sequence[Contents]:
        conversation_id, after = _parse(uri)
        conversation = conversations.get(user_id, conversation_id)
        # One more than fits, to know whether another part follows.
        messages = conversations.page_of_messages(
            user_id, conversation_id, order="asc", after=(after,), limit=MAX_MESSAGES
        )
        text = "".join(_markdown(conversation, messages, after))
        return [TextResourceContents(uri=uri, mime_type=_MEDIA_TYPE, text=text)]


def uri_of(conversation_id: UUID, after: int = 0) -> str:
    """Return the URI of a conversation, or of its part after a position."""
    return f"{_BASE}{conversation_id}" + (f"?after={after}" if after else "")


def _parse(uri: str) -> tuple[UUID, int]:
    match = _URI.fullmatch(uri)
    after = int(match[2] or 0) if match else 0
    if match is None or after > INTEGER_MAX:
        raise NotFound("There is no such resource: `resources/templates/list` has the form of the URIs.")
    try:
        return UUID(match[1]), after
    except ValueError:
        raise NotFound("There is no such resource: its id is no UUID.") from None


def _resource(conversation: Conversation) -> Resource:
    title = conversation.title or conversation.preview or "Conversation without a title"
    return Resource(
        uri=uri_of(conversation.id),
        name=title,
        title=title,
        description=f"Conversation with {conversation.message_count} messages.",
        mime_type=_MEDIA_TYPE,
        annotations=Annotations(last_modified=conversation.updated_at.isoformat()),
    )


def _markdown(conversation: Conversation, messages: Sequence[Message], after: int) -> Iterator[str]:
    yield markdown.title_line(conversation.title)
    yield f"\nConversation {conversation.id}, {conversation.message_count} messages.\n"
    room, last = MAX_CHARACTERS, after
    for message in messages[:MAX_MESSAGES]:
        text = markdown.message(_as_row(message))
        if len(text) > room and last > after:
            break
        yield text
        room, last = room - len(text), message.position
    if messages and last < messages[-1].position:
        yield f"\n---\n\nMore messages: {uri_of(conversation.id, last)}\n"
    else:
        yield markdown.END


def _as_row(message: Message) -> BundledMessage:
    """Return the message with the names of its columns."""
    return BundledMessage(
        message.position,
        message.role,
        message.content,
        message.tool_calls,
        message.tool_call_id,
        message.meta,
        message.turn_id,
        message.created_at,
    )
