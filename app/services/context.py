"""What the provider is shown: the project's prompts, the history that fits, the new message."""

from collections.abc import Iterable, Mapping
from typing import Any

from app.providers.base import ChatMessage


def build_context(
    prompts: Iterable[str] | None, history: Iterable[Mapping[str, Any]] | None, message: str
) -> list[ChatMessage]:
    """Messages in the order in which a provider reads them.

    `history` is what the database gave: oldest first, already bounded. A bound can fall between a tool call and its
    result; providers refuse half of such a pair, so the window begins at a message that stands by itself.
    """
    earlier = [
        ChatMessage(item["role"], item["content"], item["tool_calls"], item["tool_call_id"]) for item in history or ()
    ]
    start = next((place for place, item in enumerate(earlier) if item.role in ("user", "system")), len(earlier))
    return [
        *(ChatMessage("system", prompt) for prompt in prompts or ()),
        *(item for item in earlier[start:] if item.content or item.tool_calls),
        ChatMessage("user", message),
    ]
