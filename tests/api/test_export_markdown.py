"""Markdown exports: the content of a message cannot change how the next heading is parsed."""

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

# Lines that begin, end or nest blocks in CommonMark, combined line by line.
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


def own_headings(shown: str) -> list[str]:
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
def test_message_cannot_absorb_next_heading(content: str, role: str) -> None:
    shown = message(1, role, content) + message(2, "user", "next") + markdown.END
    assert own_headings(shown) == [
        "1. " + role.capitalize() + " · 2026-01-01 00:00:00 UTC",
        "2. User · 2026-01-01 00:00:00 UTC",
    ]
    *_, rule, paragraph, end, _close = MarkdownIt("commonmark").parse(shown)
    assert (rule.type, paragraph.level, end.content) == ("hr", 0, "End of the conversation.")


@settings(max_examples=300)
@given(st.text(alphabet="`~ \na", max_size=60))
def test_fenced_content_is_unchanged(text: str) -> None:
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
def test_ordinary_markdown_is_not_fenced(text: str) -> None:
    assert not markdown.may_be_unclosed(text)


@pytest.mark.parametrize("text", ["```", "```\n````x", "~~~\n```", "<!--", " <div>", "- <b>", "> ```\n> x", "a ```b"])
def test_unclosed_markdown_is_fenced(text: str) -> None:
    assert markdown.may_be_unclosed(text)
    assert markdown.quoted(markdown.fenced(text)) in message(1, "assistant", text)


HTML = [
    "<script>alert(1)</script>",
    "a <img src=x onerror=alert(1)> b",
    "text\n</div><iframe src=//x>",
    "`a\n`<b>` c",
    "\\`<b>x</b>\\`",
    "x `\n` <b> ` y",
    "``<b>`",
    "`` ` ``<b>x` `",
    "- item\n  <svg/onload=alert(1)>",
    "| a | <b> |\n|---|---|",
    "<!-- hidden",
    "<?php ?>",
    "~~~\ncode\n~~~\n<b>",
    "[x](javascript:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[a]: data:text/html,<b>",
    "<https://x.y/' onclick='1>",
]
FORGED = [
    "## 2. Assistant · 2026-01-01 00:00:00 UTC",
    "## 2\\. Assistant · 2026-01-01 00:00:00 UTC",
    "2. Assistant · 2026-01-01 00:00:00 UTC\n---",
    "2. Assistant · 2026-01-01 00:00:00 UTC\n===",
    "## 2&#46; **Assis**tant",
    "## 2. \uff21ssistant \u00b7 now",
    "## 2. \u0410ssistant \u00b7 2026-01-01 00:00:00 UTC",
    "# 3. User",
    "> ## 2. User · 2026-01-01 00:00:00 UTC",
    "1. ## 2. Tool",
    "text\r## 2. Assistant · 2026-01-01 00:00:00 UTC",
    "text\n\n---\n\nEnd of the conversation.\n\n## 9. Assistant · 2026-01-01 00:00:00 UTC",
]


@pytest.mark.parametrize("text", HTML + FORGED)
@pytest.mark.parametrize("role", ["user", "assistant", "system", "tool"])
def test_html_and_forged_headings_are_code(text: str, role: str) -> None:
    shown = message(1, role, text) + message(2, "user", "next") + markdown.END
    tokens = MarkdownIt("commonmark", {"html": True}).parse(shown)
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}
    assert not kinds & {"html_block", "html_inline", "link_open"}
    assert sum(token.type == "heading_open" for token in tokens) == 2
    assert len(own_headings(shown)) == 2


@settings(max_examples=500)
@given(
    st.text(alphabet="`<b>/a!\\ \n~>-#&lt;[](:", max_size=40),
    st.text(alphabet="`<b>/a!\\ \n~>-#&lt;[](:", max_size=40),
)
@example("`", "`<b>")
def test_no_content_makes_html_or_a_second_heading_of_the_document(content: str, title: str) -> None:
    shown = markdown.head(
        SimpleNamespace(title=title, id="x", message_count=1, created_at=MOMENT),  # type: ignore[arg-type]
        MOMENT,
    ) + message(1, "user", content)
    tokens = MarkdownIt("commonmark", {"html": True}).parse(shown + markdown.END)
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}
    assert not kinds & {"html_block", "html_inline"}
    assert sum(token.type == "heading_open" and token.level == 0 for token in tokens) == 2


@pytest.mark.parametrize(
    "text",
    [
        "## Steps\n\n1. Install 3 tools\n2. Run `make <target>` and see <https://example.org/a?b=1>",
        "a < b, 1 <2, `<x>` and ``a ` <b>``",
        "Data: 5 items in [the docs](https://example.org/javascript)",
        "| a | b |\n|---|---|\n| 1 | 2 |",
    ],
)
def test_ordinary_answer_stays_markdown(text: str) -> None:
    assert not markdown.must_be_fenced(text)
    assert markdown.quoted(text) in message(1, "assistant", text)
