"""A tool that searches the caller's conversations; for MCP clients."""

from collections.abc import Mapping
from typing import Any

from app.services import conversations
from app.services.conversations import Listed
from app.services.search_query import parse
from app.tools.json_schema import closed_object
from app.tools.tool import Tool, ToolContext, ToolResult

MAX_QUERY = 200  # characters
DEFAULT_LIMIT, MAX_LIMIT = 10, 50


def _run(context: ToolContext, arguments: Mapping[str, Any]) -> ToolResult:
    limit = int(arguments.get("limit", DEFAULT_LIMIT))
    found = conversations.search(context.user_id, parse(arguments["query"]), by_rank=True, status=None, limit=limit)
    items = [_item(listed) for listed in found[:limit]]
    more = len(found) > limit
    if not items:
        return ToolResult("No conversation matches.", data={"conversations": [], "more": False})
    lines = [
        f"{item['uri']} ({item['updated_at']}): {item['title'] or 'without a title'}\n  {item['snippet'] or ''}"
        for item in items
    ]
    head = f"{len(items)} conversations, best match first{'; more match' if more else ''}:"
    return ToolResult("\n".join([head, *lines]), data={"conversations": items, "more": more})


def _item(listed: Listed) -> dict[str, Any]:
    conversation = listed.conversation
    return {
        "id": str(conversation.id),
        "uri": f"parley://conversations/{conversation.id}",
        "title": conversation.title,
        "updated_at": conversation.updated_at.isoformat(),
        "position": listed.hit.position if listed.hit else None,
        "snippet": "".join(part.text for part in listed.hit.snippet) if listed.hit else None,
    }


SEARCH_CONVERSATIONS = Tool(
    name="search_conversations",
    title="Search conversations",
    description=(
        "Search your conversations, archived ones included, by words in their titles and messages: all words must be"
        ' there; "a phrase" in quotes; -excluded; one or another. Returns the best matches first, each with its URI,'
        " which is a resource, and the text around the words. New messages are found after some seconds."
    ),
    input_schema={
        "type": "object",
        "properties": {
            "query": {"type": "string", "minLength": 1, "maxLength": MAX_QUERY, "description": "Words to search for."},
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_LIMIT,
                "description": f"Largest number of conversations; {DEFAULT_LIMIT} if omitted.",
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    },
    output_schema=closed_object(
        {
            "conversations": {
                "type": "array",
                "items": closed_object(
                    {
                        "id": {"type": "string", "format": "uuid"},
                        "uri": {"type": "string", "description": "URI of the resource with the messages."},
                        "title": {"type": ["string", "null"]},
                        "updated_at": {"type": "string", "format": "date-time"},
                        "position": {
                            "type": ["integer", "null"],
                            "description": "Position of the message with the words; null if they are in the title.",
                        },
                        "snippet": {"type": ["string", "null"], "description": "The text around the words."},
                    }
                ),
            },
            "more": {"type": "boolean", "description": "Whether more conversations match than `limit` allows."},
        }
    ),
    run=_run,
    repeatable=True,
    read_only=True,
    destructive=False,
)
