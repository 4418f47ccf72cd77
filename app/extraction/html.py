"""HTML pages: the text that a reader sees, read without building the document in memory."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from lxml import etree

from app.extraction.pieces import Piece

_CHUNK = 65_536
_HIDDEN = {"script", "style", "template", "noscript", "svg", "math", "iframe", "object"}
_INLINE = {
    *("a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd", "label"),
    *("mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"),
}
_PARAGRAPHS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "pre", "blockquote", "title"}
_CELLS = {"td", "th"}
_SPACE = re.compile(r"[ \t\r\n\f]+")


class _Text:
    """Collects the text of the tags that the parser reports, in which it is the target."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.characters = 0
        self._hidden = self._preformatted = 0

    def start(self, tag: str, attributes: object) -> None:  # the parser passes them
        self._hidden += tag in _HIDDEN
        self._preformatted += tag == "pre"
        if tag not in _CELLS:
            self._separate(tag)

    def end(self, tag: str) -> None:
        self._hidden -= tag in _HIDDEN
        self._preformatted -= tag == "pre"
        self._separate(tag)

    def data(self, text: str) -> None:
        if not self._hidden:
            self._add(text if self._preformatted else self._collapsed(text))

    def close(self) -> None:
        """End the document; the parser calls it."""

    def _collapsed(self, text: str) -> str:
        """Return the text with single spaces, and none at the beginning of a line."""
        text = _SPACE.sub(" ", text)
        return text.lstrip(" ") if not self.parts or self.parts[-1].endswith(("\n", "\t")) else text

    def _separate(self, tag: str) -> None:
        if tag in _CELLS:
            self._add("\t")
        elif tag in _PARAGRAPHS:
            self._add("\n\n")
        elif tag not in _INLINE:
            self._add("\n")

    def _add(self, text: str) -> None:
        self.parts.append(text)
        self.characters += len(text.strip())


def read(file: BinaryIO, characters: int) -> Iterator[Piece]:
    """Yield the text as one piece; reading ends soon after `characters`."""
    target = _Text()
    parser = etree.HTMLParser(target=target, encoding="utf-8", huge_tree=True)
    while target.characters <= characters and (chunk := file.read(_CHUNK)):
        parser.feed(chunk)
    if target.characters <= characters:
        parser.close()
    yield Piece("".join(target.parts))
