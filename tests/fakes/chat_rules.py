"""The rules by which real servers reject a list of messages, as functions that return the error message, or None."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tests.fakes.exchange import Exchange, Script
from tests.fakes.scripts import status

Messages = list[dict[str, Any]]
Rule = Callable[[Messages], str | None]


def alternate(messages: Messages) -> str | None:
    """Apply the chat templates of Mistral-7B-Instruct-v0.3 and gemma-3-27b-it, which raise this exception."""
    dialogue = messages[1:] if messages and messages[0]["role"] == "system" else messages
    # Mistral's template leaves out results of tools and messages with tool calls; Gemma's has no tools.
    turns = [message for message in dialogue if message["role"] != "tool" and not message.get("tool_calls")]
    for index, message in enumerate(turns):
        if (message["role"] == "user") != (index % 2 == 0) or message["role"] not in ("user", "assistant"):
            return (
                "After the optional system message, conversation roles must alternate user/assistant/user/assistant/..."
            )
    return None


def no_user_after_tool(messages: Messages) -> str | None:
    """Apply the rule of Mistral's API."""
    for before, message in pairwise(messages):
        if before["role"] == "tool" and message["role"] == "user":
            return "Unexpected role 'user' after role 'tool'"
    return None


def tools(messages: Messages) -> str | None:
    """Apply OpenAI's rule: each tool call is followed by its only result, and each result has a call."""
    awaited: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message.get("tool_call_id") not in awaited:
                return "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
            awaited.remove(message["tool_call_id"])
        elif awaited:
            break
        else:
            awaited = {call["id"] for call in message.get("tool_calls") or ()}
    if awaited:
        return (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
            f" 'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(awaited)}"
        )
    return None


def contents(messages: Messages) -> str | None:
    """Apply OpenAI's rule for null, and Anthropic's rule for text without visible characters."""
    for index, message in enumerate(messages):
        content = message["content"]
        if content is None and not message.get("tool_calls"):
            return f"Invalid value for 'content': expected a string, got null. (messages[{index}])"
        if content is not None and not content.strip() and message["role"] != "tool":
            return f"messages.{index}: text content blocks must contain non-whitespace text"
    return None


def shape(messages: Messages) -> str | None:
    """Refuse unknown fields."""
    for message in messages:
        if not set(message) <= {"role", "content", "tool_calls", "tool_call_id"}:
            return f"Additional properties are not allowed: {sorted(message)}"
        for call in message.get("tool_calls") or ():
            if set(call) != {"id", "type", "function"} or set(call["function"]) != {"name", "arguments"}:
                return f"Additional properties are not allowed: {call}"
    return None


ALL: tuple[Rule, ...] = (alternate, no_user_after_tool, tools, contents, shape)


def violation(messages: Messages, *rules: Rule) -> str | None:
    """Return the first error by these rules; without any, by all of them."""
    return next((error for rule in rules or ALL if (error := rule(messages))), None)


def enforcing(inner: Script, *rules: Rule) -> Script:
    """Return a script that answers 400 with the error, else as `inner` does."""

    async def script(exchange: Exchange) -> None:
        error = violation(exchange.json()["messages"], *rules)
        if error is None:
            await inner(exchange)
        else:
            await status(400, {"error": {"message": error, "type": "invalid_request_error"}})(exchange)

    return script
