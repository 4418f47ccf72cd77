"""The title and the preview of a conversation in lists: never blank, because they begin with a visible character."""

from app.text import from_first_visible

_TITLE = 50  # characters of the first message
_PREVIEW = 200  # characters of the newest message


def title_of(message: str) -> str:
    """Return the first 50 characters of a first message on one line, with "..." if it is longer."""
    line = " ".join(from_first_visible(message).split())
    return line[:_TITLE] + ("..." if len(line) > _TITLE else "")


def preview_of(text: str | None) -> str | None:
    """Return the first 200 characters of a message on one line, or None if it is blank."""
    return " ".join(from_first_visible(text or "")[: _PREVIEW * 4].split())[:_PREVIEW] or None
