"""How a conversation is shown in a list: its title and its preview."""

_TITLE = 50  # characters of the first message
_PREVIEW = 200  # characters of the newest message


def title_of(message: str) -> str:
    """The first 50 characters of a first message on one line, with "..." if it is longer."""
    line = " ".join(message.split())
    return line[:_TITLE] + ("..." if len(line) > _TITLE else "")


def preview_of(text: str | None) -> str | None:
    """The first 200 characters of a message on one line; None if there is nothing to show."""
    return " ".join((text or "")[: _PREVIEW * 4].split())[:_PREVIEW] or None
