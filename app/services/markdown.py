"""A conversation as Markdown (CommonMark): a heading for each message, and under it what was said.

Most of what is said is Markdown itself and stays as it is. What could run on beyond its end, such as a code block that
is never closed, and would take the headings after it along, is shown as the text that it is, in a fence.
"""

import re
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Row

from app.models import TurnStatus
from app.services.bundles import BundledMessage

_PARTIAL = (TurnStatus.FAILED, TurnStatus.CANCELLED, TurnStatus.INTERRUPTED)
END = "\n---\n\nEnd of the conversation.\n"
_FENCE = re.compile(r"( {0,3})(`{3,}|~{3,})(.*)")
_HTML = re.compile(r"[\s>*+\-\d.)]*<")  # at the start of a line, or of whatever begins there
_LINE = re.compile(r"\r\n|\r|\n")  # where CommonMark ends a line


def head(conversation: Row[Any], exported_at: datetime) -> str:
    """The title, and what the conversation is."""
    title = " ".join((conversation.title or "Conversation").split())
    count = conversation.message_count
    return (
        f"# {title}\n\n"
        f"Conversation {conversation.id}: {count} message{'' if count == 1 else 's'}, "
        f"begun {_moment(conversation.created_at)}, exported {_moment(exported_at)}.\n"
    )


def message(row: Row[Any] | BundledMessage) -> str:
    """One message, with an empty line before it."""
    said = f"\n## {row.position}. {row.role.capitalize()} · {_moment(row.created_at)}\n"
    if row.content:
        text = fenced(row.content) if row.role == "tool" or runs_on(row.content) else row.content
        said += f"\n{text.rstrip()}\n"
    for call in row.tool_calls or ():
        said += f"\nCalls a tool:\n\n{fenced(orjson.dumps(call, option=orjson.OPT_INDENT_2).decode(), 'json')}\n"
    if row.metadata.get("partial") in _PARTIAL:
        said += f"\n*The answer ends here: {row.metadata['partial']}.*\n"
    return said


def fenced(text: str, language: str = "") -> str:
    """`text` as a code block, whatever is in it: its fence is longer than any in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def runs_on(text: str) -> bool:
    """Whether a code or HTML block in `text` might not end with it; true as well where that takes more than a look.

    Within lists and quotations a block ends with them; so does not one that only seems to be in them.
    """
    fence, indent = "", 0
    for line in _LINE.split(text):
        found = _FENCE.fullmatch(line)
        if not fence:
            if _HTML.match(line):
                return True
            if found and not (found[2][0] == "`" and "`" in found[3]):
                fence, indent = found[2], len(found[1])
            elif "```" in line or "~~~" in line:
                return True
        elif found and found[2].startswith(fence) and not found[3].strip(" \t") and len(found[1]) >= indent:
            fence = ""
        elif indent and line.strip(" \t") and not line.startswith(" " * indent):
            return True
    return bool(fence)


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
