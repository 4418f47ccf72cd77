"""A conversation as Markdown (CommonMark): a heading of each message, and its text as a quotation.

The text usually is Markdown too, and stays as it is, but each line of it is quoted: so nothing in it can end the
quotation, look like the heading of another message, or include the headings after it. A text is shown as a code block
if it has a block that may not be closed, raw HTML, links that run scripts, or a heading that imitates those here.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import orjson
from sqlalchemy import Row

from app.enums import TurnStatus
from app.outbound.yielding import Yielder
from app.services.bundles import BundledMessage

_PARTIAL = (TurnStatus.FAILED, TurnStatus.CANCELLED, TurnStatus.INTERRUPTED)
END = "\n---\n\nEnd of the conversation.\n"
_FENCE = re.compile(r"( {0,3})(`{3,}|~{3,})(.*)")
_HTML = re.compile(r"[\s>*+\-\d.)]*<")  # at the start of a line, or of a list item or quotation
_MARKUP = re.compile(r"([\\`*_\[\]<>&~|]|#(?=#*$))")  # in one line of text; a backslash makes it plain
_TAG = re.compile(r"<[A-Za-z/!?]")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(?:(?!\1(?!`)).)*?[^`]\1(?!`)")
_AUTOLINK = re.compile(r"<https?://[^\s<>\"'`]*>")
_SCRIPT_LINK = re.compile(r"(?:\(<?|\]:<?|<)(?:javascript|vbscript|data):", re.IGNORECASE)  # without white space
_HEADING = re.compile(r"[\s>*+\-\d.)]*#{1,6}(?:[ \t]|$)")
_UNDERLINE = " \\t>*+-=.)0123456789"  # all characters of the line after a heading, also in lists
_ROLES = ("user", "assistant", "system", "tool")
_SLICE_SECONDS = 0.002
_LINES_PER_STEP = 50
_MAX_SEARCHED = 2_000  # characters of a line
_MANY_DIGITS = 8  # a heading here has a time of 14


def head(conversation: Row[Any], exported_at: datetime) -> str:
    """Return the title and the facts of the conversation."""
    count = conversation.message_count
    return (
        f"{title_line(conversation.title)}\n"
        f"Conversation {conversation.id}: {count} message{'' if count == 1 else 's'}, "
        f"begun {_timestamp(conversation.created_at)}, exported {_timestamp(exported_at)}.\n"
    )


def title_line(title: str | None) -> str:
    """Return the heading of a conversation with this title."""
    plain = _MARKUP.sub(r"\\\1", " ".join((title or "Conversation").split()))
    return f"# {plain}\n"


def message(row: Row[Any] | BundledMessage) -> str:
    """Return one message, with an empty line before it."""
    markdown = f"\n## {row.position}. {row.role.capitalize()} · {_timestamp(row.created_at)}\n"
    if row.content:
        text = fenced(row.content) if row.role == "tool" or must_be_fenced(row.content) else row.content
        markdown += f"\n{quoted(text.rstrip())}\n"
    for call in row.tool_calls or ():
        arguments = fenced(orjson.dumps(call, option=orjson.OPT_INDENT_2).decode(), "json")
        markdown += f"\nCalls a tool:\n\n{quoted(arguments)}\n"
    if row.metadata.get("empty") is True:
        markdown += "\n*The answer has no text.*\n"
    if row.metadata.get("partial") in _PARTIAL:
        markdown += f"\n*The answer ends here: {row.metadata['partial']}.*\n"
    return markdown


def quoted(text: str) -> str:
    """Return `text` with each of its lines in a quotation."""
    return "\n".join(f"> {line}" if line else ">" for line in _lines(text))


def must_be_fenced(text: str) -> bool:
    """Return whether `text` must be a code block: it is not well-formed, or could do more than format its own text."""
    if may_be_unclosed(text):
        return True
    lines = list(_outside_fences(text))
    return _has_html(lines) or _has_script_link(lines) or _imitates_heading(lines)


def fenced(text: str, language: str = "") -> str:
    """Return `text` as a code block, with a fence that is longer than any in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def may_be_unclosed(text: str) -> bool:
    """Return whether a code or HTML block in `text` may not be closed.

    Also returns True if that is not certain, such as for blocks that seem to be in lists or quotations.
    """
    fence, indent = "", 0
    for line in _lines(text):
        match = _FENCE.fullmatch(line)
        if not fence:
            if _HTML.match(line):
                return True
            if match and not (match[2][0] == "`" and "`" in match[3]):
                fence, indent = match[2], len(match[1])
            elif "```" in line or "~~~" in line:
                return True
        elif match and match[2].startswith(fence) and not match[3].strip(" \t") and len(match[1]) >= indent:
            fence = ""
        elif indent and line.strip(" \t") and not line.startswith(" " * indent):
            return True
    return bool(fence)


def _outside_fences(text: str) -> Iterator[str]:
    """Yield the lines that are not in a code block. All blocks must be closed."""
    fence = ""
    for line in _lines(text):
        match = _FENCE.fullmatch(line)
        if fence:
            if match and match[2].startswith(fence) and not match[3].strip(" \t"):
                fence = ""
        elif match and not (match[2][0] == "`" and "`" in match[3]):
            fence = match[2]
        else:
            yield line


def _has_html(lines: list[str]) -> bool:
    """Return whether there may be HTML outside of code. A code span counts only if it is on one line."""
    rests = [_AUTOLINK.sub("", _without_code(line)) for line in _paced(lines)]
    if any("`" in rest or "\\`" in line for rest, line in zip(rests, lines, strict=True)):
        rests = lines  # which of the backticks begin code is not certain
    return any(_TAG.search(rest) for rest in rests)


def _without_code(line: str) -> str:
    """Return the line without its code spans; a long line as it is, because the search could take minutes."""
    return _CODE_SPAN.sub("", line) if len(line) <= _MAX_SEARCHED else line


def _may_underline(line: str) -> bool:
    return ("-" in line or "=" in line) and not line.strip(_UNDERLINE)


def _has_script_link(lines: list[str]) -> bool:
    """Return whether a link or its definition may run a script."""
    text = "\n".join(lines)
    plain = re.sub(r"[\x00-\x20\\]", "", html.unescape(text)) if "[" in text or "<" in text else ""
    return _SCRIPT_LINK.search(plain) is not None


def _imitates_heading(lines: list[str]) -> bool:
    """Return whether a heading has a role, or as many digits as a time."""
    for line, following in pairwise(_paced([*lines, ""])):
        if not _HEADING.match(line) and not (line.strip() and _may_underline(following)):
            continue
        plain = unicodedata.normalize("NFKD", html.unescape(line)).casefold()
        letters = "".join(character for character in plain if character.isalpha())
        digits = sum(character.isdigit() for character in plain)
        if digits >= _MANY_DIGITS or (digits and any(role in letters for role in _ROLES)):
            return True
    return False


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of CommonMark."""
    yield from _paced(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


def _paced(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines. A megabyte can hold a million of them, so other greenlets run after each slice of time."""
    yielder = Yielder(_SLICE_SECONDS)
    for number, line in enumerate(lines):
        if number % _LINES_PER_STEP == 0:
            yielder.step()
        yield line


def _timestamp(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
