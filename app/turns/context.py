"""The messages that a provider is sent: the project's prompts, the history, the new message.

The history is stored as it happened: a turn may have ended without an answer or in the middle of its tool calls, the
window may begin in the middle of a turn, and an import may contain anything. Some servers reject such messages, and
then each later turn of the conversation would fail. So the context follows the strictest rules in use, those of OpenAI
for tools and those of the chat templates of Mistral and Gemma for roles: one system message, at the beginning only;
then user and assistant alternate, beginning with the user; each tool call is followed by its result. See ADR 0018.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from app.providers.base import ChatMessage
from app.text import is_blank

# Between the results of tools and the user's next message, if the model has not answered the results.
NO_ANSWER = "[The answer was not completed.]"

# In place of the user's message before calls of tools, if the window of the history does not contain it.
NOT_SHOWN = "[Earlier messages are not shown.]"

# Result of a call that waited for the user's approval when the user sent another message.
NOT_APPROVED = "[The user did not approve this call, and sent a new message instead.]"

_SEPARATOR = "\n\n"


def build_context(
    prompts: Iterable[str] | None, history: Iterable[Mapping[str, Any]] | None, message: str
) -> list[ChatMessage]:
    """Return the messages in the order in which a provider reads them. `history` is a bounded window, oldest first."""
    earlier = [
        ChatMessage(item["role"], item["content"], item["tool_calls"], item["tool_call_id"]) for item in history or ()
    ]
    complete = list(_complete(earlier))
    if any(item.role == "tool" for item in complete) and not any(item.role == "user" for item in complete):
        # The window begins inside one long turn with tools, whose last results the model needs.
        complete.insert(0, ChatMessage("user", NOT_SHOWN))
    system = [*(prompts or ()), *(item.content for item in earlier if item.role == "system" and _has_text(item))]
    dialogue = _alternating(chain(complete, [ChatMessage("user", message)]))
    return [ChatMessage("system", _joined(*system)), *dialogue] if system else dialogue


def build_pending_context(
    prompts: Iterable[str] | None, history: Sequence[Mapping[str, Any]] | None, pending: Mapping[str, Any]
) -> list[ChatMessage]:
    """Return the messages up to `pending`, the last message of the history, which calls tools. Their results follow."""
    earlier = [item for item in history or () if item["tool_calls"] != pending["tool_calls"]]
    results = [
        {"role": "tool", "content": "", "tool_calls": None, "tool_call_id": call["id"]}
        for call in pending["tool_calls"]
    ]
    context = build_context(prompts, [*earlier, pending, *results], NOT_SHOWN)
    return context[: -2 - len(results)]  # without the results, the answer and the message after them


def _complete(messages: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    """Yield the messages of users and assistants that have text, and the tool calls that have a result."""
    index = 0
    while index < len(messages):
        message = messages[index]
        index += 1
        if message.role == "assistant" and message.tool_calls:
            yield from _tool_calls(message, _results_after(messages, index))
        elif message.role in ("user", "assistant") and _has_text(message):
            yield ChatMessage(message.role, message.content)


def _results_after(messages: Sequence[ChatMessage], index: int) -> dict[str | None, str]:
    """Return the results of the calls before `index` by id, up to the next calls or the user's next message.

    A turn that makes approved calls may be attempted more than once: the newest result of a call counts.
    """
    results: dict[str | None, str] = {}
    for message in messages[index:]:
        if message.role == "user" or (message.role == "assistant" and message.tool_calls):
            break
        if message.role == "tool":
            results[message.tool_call_id] = message.content or ""
    return results


def _tool_calls(message: ChatMessage, results: Mapping[str | None, str]) -> Iterator[ChatMessage]:
    """Yield an assistant's message with those of its calls that have a result, and the results.

    Calls of which none has a result have waited for approval.
    """
    sent = {call["id"]: call for call in map(_valid_call, message.tool_calls or ()) if call}
    results = results or dict.fromkeys(sent, NOT_APPROVED)
    calls = {call_id: call for call_id, call in sent.items() if call_id in results}
    content = message.content if _has_text(message) else None
    if calls or content:
        yield ChatMessage("assistant", content, list(calls.values()) or None)
    for call_id in calls:
        yield ChatMessage("tool", results[call_id], tool_call_id=call_id)


def _alternating(messages: Iterable[ChatMessage]) -> list[ChatMessage]:
    """Return the messages from the first one of a user on, with consecutive ones of one role joined."""
    dialogue: list[ChatMessage] = []
    for message in messages:
        last = dialogue[-1] if dialogue else None
        if last is None:
            if message.role == "user":
                dialogue.append(message)
        elif message.role == last.role and message.role != "tool":
            dialogue[-1] = ChatMessage(message.role, _joined(last.content, message.content), message.tool_calls)
        else:
            if (last.role, message.role) == ("tool", "user"):
                dialogue.append(ChatMessage("assistant", NO_ANSWER))
            dialogue.append(message)
    return dialogue


def _joined(*contents: str | None) -> str:
    return _SEPARATOR.join(filter(None, contents))


def _has_text(message: ChatMessage) -> bool:
    return not is_blank(message.content or "")


def _valid_call(call: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a call without additional fields; None if it, perhaps from an import, is no call of a function."""
    function = call.get("function")
    if not isinstance(function, dict):
        return None
    call_id, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
    if not (isinstance(call_id, str) and isinstance(name, str) and isinstance(arguments, str) and call_id and name):
        return None
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
