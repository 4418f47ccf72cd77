"""Names of uploaded files."""

import unicodedata

from app.errors import InvalidInput
from app.text import is_blank, without_controls, without_invisible

LONGEST = 255  # characters; most file systems allow as many bytes


def checked_name(name: str) -> str:
    """Return the name in normal form C. Raises `InvalidInput`.

    A name with a path could be written elsewhere, and marks of direction make an extension look like another one.
    """
    name = unicodedata.normalize("NFC", name)
    reason = None
    if is_blank(name) or not name.strip(". "):
        reason = "may not be empty"
    elif len(name) > LONGEST:
        reason = f"may have at most {LONGEST} characters"
    elif "/" in name or "\\" in name:
        reason = "may not contain / or \\: send the name without its path"
    elif any(character in name for character in "\r\n\t") or name != without_controls(name):
        reason = "may not contain control characters or marks of direction"
    elif "\ufeff" in name or name != name.strip() or is_blank(without_invisible(name)):
        reason = "may not begin or end with white space"
    if reason is not None:
        raise InvalidInput(fields={"name": [f"The file name {reason}."]})
    return name
