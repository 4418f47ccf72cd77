"""Plans of the demo provider for messages about the to-do list: tool calls, one after the other, and the answer.

A plan is a generator: it yields a call, receives the result, and returns the answer. It is run again for each request,
with the results that the conversation has by then, so the provider needs no state.
"""

import json
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.text import shortened

TITLE_CHARS = 200
_NAMES_SHOWN = 20
_SHOWN_CHARS = 200


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. `arguments` are JSON values."""

    tool: str
    arguments: dict[str, Any]


Plan = Generator[Call, str, str]  # receives the text of each result; returns a sentence of the answer

_TODO = r"(?:task|to-?do)"
_LIST = rf"(?:(?:{_TODO}\s+)?list|{_TODO}s)"
_TITLE = r"(?P<title>\S.*?)"
_FLAGS = re.IGNORECASE | re.DOTALL
_POLITE = re.compile(r"(?:please|now|also|can you|could you|would you)\s+", re.IGNORECASE)
_ADD = (
    re.compile(rf"(?:add|create)\s+(?:an?\s+)?(?:new\s+)?{_TODO}(?:\s+(?:to|called)\b)?:?\s+{_TITLE}", _FLAGS),
    re.compile(rf"add\s+{_TITLE}\s+to\s+(?:my|the)\s+{_LIST}", _FLAGS),
    re.compile(rf"remind\s+me\s+to\s+{_TITLE}", _FLAGS),
)
_SHOW = (
    re.compile(
        rf"(?:show|list|read|give)\s+(?=.*\b(?:{_LIST}|open|left|completed|done)\b)(?:me\s+)?(?:(?:all|of|my|the|what|is|are|on|{_LIST}|(?P<done>completed|done)|"
        rf"open|still|left)(?:\s+|$))+",
        _FLAGS,
    ),
    re.compile(
        rf"(?:what(?:\s+is|’s|'s|\s+are)|which\s+{_TODO}s\s+are)\s+(?:(?:on|my|the|still)\s+)*"
        rf"(?:open|left|(?:(?:open|(?P<done>completed|done))\s+)?{_LIST}|(?P<finished>completed|done))",
        _FLAGS,
    ),
)
_COMPLETE = (
    re.compile(rf"(?:complete|finish|close)\s+(?:the\s+|my\s+)?{_TODO}:?\s+{_TITLE}", _FLAGS),
    re.compile(rf"mark\s+(?:the\s+|my\s+)?(?:{_TODO}:?\s+)?{_TITLE}\s+as\s+(?:done|completed?|finished)", _FLAGS),
)
_DELETE = (re.compile(rf"(?:delete|remove)\s+(?:the\s+|my\s+)?{_TODO}:?\s+{_TITLE}", _FLAGS),)
_RENAME = (re.compile(rf"rename\s+(?:the\s+|my\s+)?{_TODO}:?\s+{_TITLE}\s+to\s+(?P<new>\S.*)", _FLAGS),)
_VERBS = r"(?:show|list|what|which|add\s+an?\s|remind|complete\s|mark\s|delete\s|remove\s|rename\s)"
_SEPARATOR = re.compile(
    rf"\s*(?:[,;.!?]\s+)?(?:and\s+)?\bthen\s+|[;.!?]\s+(?:and\s+)?(?={_VERBS})|,?\s+and\s+(?={_VERBS})", re.IGNORECASE
)


def next_step(text: str, results: Sequence[str], tools: Iterable[str]) -> Call | str | None:
    """Return the next call for the user's message `text`, or the answer after the last one.

    `results` are those of the calls that were made for it. None: the message is not about the to-do list, or the tools
    for it are missing.
    """
    available, sentences, left = set(tools), list[str](), list(results)
    for plan in _plans(text):
        try:
            call = next(plan)
            while left:
                call = plan.send(left.pop(0))
        except StopIteration as stop:
            sentences.append(stop.value)
            continue
        if call.tool in available:
            return call
        break  # the last request of a turn may offer no tools
    return " ".join(sentences) or None


def _plans(text: str) -> Iterator[Plan]:
    """Yield a plan for each part of the message, up to the first one that is not understood."""
    for part in _SEPARATOR.split(" ".join(text.split())):
        plan = _plan(_POLITE.sub("", part.strip(), count=2).rstrip(" .!?,;"))
        if plan is None:
            return
        yield plan


def _plan(part: str) -> Plan | None:
    if found := _first(_ADD, part):
        return _add(_title(found["title"]))
    if found := _first(_SHOW, part):
        return _show(completed=any(found.groupdict().values()))
    if found := _first(_COMPLETE, part):
        return _change(found["title"], "complete_task", "completed")
    if found := _first(_DELETE, part):
        return _change(found["title"], "delete_task", "deleted")
    if found := _first(_RENAME, part):
        return _change(found["title"], "update_task", "renamed", title=_title(found["new"]))
    return None


def _first(patterns: Iterable[re.Pattern[str]], part: str) -> re.Match[str] | None:
    return next((found for pattern in patterns if (found := pattern.fullmatch(part))), None)


def _title(text: str) -> str:
    """Return a title in one line, without quotation marks around it."""
    title = shortened(_unquoted(text), TITLE_CHARS)
    return title[:1].upper() + title[1:]


def _unquoted(text: str) -> str:
    quoted = re.fullmatch(r"[\"“”„'‘«](.+)[\"“”'’»]", text.strip(), re.DOTALL)
    return quoted[1] if quoted else text.strip()


def _add(title: str) -> Plan:
    result = yield Call("add_task", {"title": title})
    added = _value(result, "task")
    return f"I added {_name(added)}." if added else _returned(result)


def _show(*, completed: bool) -> Plan:
    result = yield Call("list_tasks", {"completed": completed})
    listed = _listed(result)
    kind = "completed" if completed else "open"
    if listed is None:
        return _returned(result)
    if not listed:
        return f"You have no {kind} tasks."
    names = ", ".join(_name(each) for each in listed[:_NAMES_SHOWN])
    more = ", and more" if len(listed) > _NAMES_SHOWN or _value(result, "next_after", str) else ""
    return f"Your {kind} tasks: {names}{more}."


def _change(words: str, tool: str, done: str, **arguments: Any) -> Plan:
    """Find a task by its words, and change it."""
    query = _unquoted(words)[:TITLE_CHARS]
    found = yield Call("list_tasks", {"q": query, "limit": 1})
    listed = _listed(found)
    if listed is None:
        return _returned(found)
    if not listed:
        return f"I found no task {_name({'title': query})}."
    result = yield Call(tool, {"task_id": listed[0].get("id"), **arguments})
    is_done = _value(result, "task") or _value(result, "deleted", bool)
    return f"I {done} {_name(listed[0])}." if is_done else _returned(result)


def _listed(result: str) -> list[dict[str, Any]] | None:
    listed = _value(result, "tasks", list)
    return None if listed is None else [each for each in listed if isinstance(each, dict)]


def _name(item: dict[str, Any]) -> str:
    return f"“{shortened(str(item.get('title')), _SHOWN_CHARS)}”"


def _value(result: str, name: str, kind: type[Any] = dict) -> Any:
    """Return a value of a result, or None if it, for example an error, has none of this kind."""
    try:
        data = json.loads(result)
    except ValueError:
        return None
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, kind) else None


def _returned(result: str) -> str:
    return f"The tool returned: {shortened(result or 'nothing', _SHOWN_CHARS)}"
