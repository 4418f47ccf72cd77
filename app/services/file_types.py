"""The media types of uploaded files, found from their content: a name can claim anything."""

import codecs
from pathlib import PurePosixPath

import puremagic

from app.errors import UnsupportedFile

HEAD_BYTES = 65_536  # from the beginning of a file, which its signature is in

_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
BINARY = ("application/pdf", _DOCX, "image/png", "image/jpeg", "image/gif", "image/webp")
_TEXT = {
    ".csv": "text/csv",
    ".htm": "text/html",
    ".html": "text/html",
    ".json": "application/json",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
}
PLAIN = "text/plain"
ALLOWED = tuple(sorted({*BINARY, *_TEXT.values(), PLAIN}))


class TextProbe:
    """A reader of bytes that recognizes text: valid UTF-8 without NUL."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_text = True

    def add(self, chunk: bytes) -> None:
        """Read the next bytes."""
        self._is_text = self._is_text and b"\0" not in chunk and self._decodes(chunk, final=False)

    def ends_as_text(self) -> bool:
        """Return whether all bytes are text."""
        return self._is_text and self._decodes(b"", final=True)

    def _decodes(self, chunk: bytes, *, final: bool) -> bool:
        try:
            self._decoder.decode(chunk, final)
        except UnicodeDecodeError:
            return False
        return True


def media_type_of(head: bytes, name: str, *, is_text: bool) -> str:
    """Return the media type of a file with these first bytes. Among kinds of text, the name's extension decides.

    Raises `UnsupportedFile` for a type that is not in ALLOWED.
    """
    found = _binary_type(head)
    if found is not None:
        return found
    if is_text:
        return _TEXT.get(PurePosixPath(name).suffix.lower(), PLAIN)
    raise UnsupportedFile(
        f"The content of {name!r} is of a type that is not accepted: send {', '.join(ALLOWED)}. Text must be UTF-8."
    )


def has_text(media_type: str) -> bool:
    """Return whether text can be extracted from files of this type."""
    return not media_type.startswith("image/")


def _binary_type(head: bytes) -> str | None:
    try:
        candidates = [str(match.mime_type) for match in puremagic.magic_string(head)]
    except (puremagic.PureError, ValueError):  # nothing is known that begins so
        return None
    for media_type in candidates:
        if media_type == _DOCX:  # all office documents are ZIP files
            if b"word/" in head:
                return media_type
        elif media_type in BINARY:
            return media_type
    return None
