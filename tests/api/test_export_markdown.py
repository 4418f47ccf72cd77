"""Markdown that holds together: whatever is said in one message, the next one's heading is a heading."""

import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from app.services import markdown
from tests.api.test_export import headings

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)

# What begins, ends or nests blocks in CommonMark; put together line by line.
lines = st.lists(
    st.sampled_from(
        """
        |```|````|~~~|~~~~|```python|``` a`b|~~~x~~~| ```|  ```|   ```|    ```|\t```|  ~~~|`|``
        |- a|- ```|1. a|10. ```|   1. ```|> ```|> a|>|- <!--|  - b|- - ```|-
        |<!--|-->|<script>|<pre>|</pre>|<div>|<?|<!X|<![CDATA[|a <!-- b|<https://x.y>|  <style>
        |# a|## a|===|---|***|a|    a|  a|[a]: <|[a]: /u '|'|\\|a `|| a | b ||\u2028|\x0b|\u00a0
        """.replace("\n", "")
        .replace("        ", "")
        .split("|")
    ),
    max_size=9,
)
contents = st.builds(lambda parts, end: end.join(parts), lines, st.sampled_from(["\n", "\n", "\r\n", "\r"]))


def message(position: int, role: str, content: str | None, **columns: Any) -> str:
    row = {"tool_calls": None, "metadata": {}, "created_at": MOMENT, **columns}
    return markdown.message(SimpleNamespace(position=position, role=role, content=content, **row))  # type: ignore[arg-type]


def ours(shown: str) -> list[str]:
    return [text for text in headings(shown) if re.fullmatch(r"\d\. \w+ · 2026-01-01 00:00:00 UTC", text)]


@settings(max_examples=300)
@given(contents, st.sampled_from(["user", "assistant", "tool"]))
@example("- ```\n  a\n  ```\n\n```\nx", "user")
@example("- x\n  ```\ntext\n  ```\nrest", "user")
@example("1. a\n   ```\n   code\n```\ntext", "user")
@example("<!--", "user")
@example("a\n<pre>\n\nb", "user")
@example("```\n~~~\n```\n~~~", "user")
@example("~~~ ```\n```", "user")
def test_no_message_swallows_the_next(content: str, role: str) -> None:
    shown = message(1, role, content) + message(2, "user", "next") + markdown.END
    assert ours(shown) == [
        "1. " + role.capitalize() + " · 2026-01-01 00:00:00 UTC",
        "2. User · 2026-01-01 00:00:00 UTC",
    ]
    *_, rule, paragraph, end, _close = MarkdownIt("commonmark").parse(shown)
    assert (rule.type, paragraph.level, end.content) == ("hr", 0, "End of the conversation.")


@settings(max_examples=300)
@given(st.text(alphabet="`~ \na", max_size=60))
def test_what_is_fenced_comes_out_as_it_went_in(text: str) -> None:
    [token] = MarkdownIt("commonmark").parse(markdown.fenced(text, "json"))
    assert (token.type, token.info) == ("fence", "json")
    assert token.content == f"{text}\n"


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "# A heading\n\n- a list\n- of two\n\n> and more",
        "```python\nprint('<b>')\n```",
        "1. Do this:\n   ```bash\n   ls\n   ```\n2. Then that.",
        "- a\n  ```\n  x\n\n  y\n  ```\nend",
        "~~~~\n```\n~~~~",
        "````md\n```python\n```\n````",
        "a < b and `<x>`",
        "",
    ],
)
def test_ordinary_markdown_stays_markdown(text: str) -> None:
    assert not markdown.runs_on(text)


@pytest.mark.parametrize("text", ["```", "```\n````x", "~~~\n```", "<!--", " <div>", "- <b>", "> ```\n> x", "a ```b"])
def test_what_might_run_on_is_shown_as_text(text: str) -> None:
    assert markdown.runs_on(text)
    assert f"\n{text}\n" in message(1, "assistant", text)
