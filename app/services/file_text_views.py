"""The state of a file's text, as its owner sees it."""

from dataclasses import dataclass
from typing import Final

from app.enums import FileTextFailure, FileTextState
from app.models import FileText

NONE = "none"  # the file has no text, or texts are not extracted
STATES = (NONE, *FileTextState)

_SENTENCES: Final = {
    FileTextFailure.ENCRYPTED: "The file is protected by a password; upload it without one.",
    FileTextFailure.BROKEN: "The file is damaged or cut; upload it again.",
    FileTextFailure.TOO_LARGE: "The file is too large when it is unpacked.",
    FileTextFailure.MEMORY: "Reading the file takes too much memory; upload a smaller one, or its text.",
    FileTextFailure.TIME: "Reading the file takes too long; upload a smaller one, or its text.",
    FileTextFailure.CRASHED: "The file could not be read; upload its text.",
    FileTextFailure.MISSING: "The content of the file is missing in the store; upload the file again.",
}


@dataclass(frozen=True, slots=True)
class FileTextView:
    """State of a text. `reason` and `message` are of a failure; `truncated` if the file has more text than is used."""

    state: str
    reason: str | None = None
    message: str | None = None
    characters: int = 0
    truncated: bool = False


def text_view(text: FileText | None, *, is_extracted: bool) -> FileTextView:
    """Return the view of a file's text. `is_extracted` is FILES_EXTRACT: without it, pending texts stay so."""
    if text is None or (text.state == FileTextState.PENDING and not is_extracted):
        return FileTextView(NONE)
    message = _SENTENCES[FileTextFailure(text.reason)] if text.reason else None
    return FileTextView(text.state, text.reason, message, text.characters, text.truncated)
