"""The field of a reason that an operator gives."""

from marshmallow import validate

from app.api.schemas.base import PlainText
from app.bounds import MIN_REASON_LENGTH, REASON_LIMIT


def reason_field(description: str) -> PlainText:
    """Return a required field with the bounds of a reason; `description` is a sentence without its full stop."""
    return PlainText(
        max_length=REASON_LIMIT,
        required=True,
        validate=validate.Length(min=MIN_REASON_LENGTH),
        metadata={"description": f"{description}; at least {MIN_REASON_LENGTH} characters."},
    )
