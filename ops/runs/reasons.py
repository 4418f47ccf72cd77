"""The reason that an operator gives for an action, with the same bounds everywhere."""

from app.bounds import MIN_REASON_LENGTH, REASON_LIMIT
from app.errors import InvalidInput
from app.text import clean_text, without_invisible


def checked_reason(reason: str) -> str:
    """Return the reason without space around it.

    Raises `InvalidInput` unless it has `MIN_REASON_LENGTH` visible characters and at most `REASON_LIMIT` in all.
    """
    reason = clean_text(reason).strip()
    if len(without_invisible(reason).strip()) < MIN_REASON_LENGTH or len(reason) > REASON_LIMIT:
        bounds = f"Give a reason of {MIN_REASON_LENGTH} to {REASON_LIMIT} characters."
        raise InvalidInput(fields={"reason": [bounds]})
    return reason
