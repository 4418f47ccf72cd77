"""Accounts and their tokens."""

from collections.abc import Callable
from typing import Any, ClassVar

import marshmallow as ma
from marshmallow import fields, validate

from app.api.schemas.base import Examples, PlainText, Schema
from app.models import UserRole
from app.services import passwords


def _password(complaint_about: Callable[[str], str | None], shortest: int = 0) -> fields.String:
    """Never trimmed, never cut: what cannot be taken whole is refused."""

    def check(password: str) -> None:
        if complaint := complaint_about(password):
            raise ma.ValidationError(complaint)

    rules = f"At least {passwords.MIN_CHARACTERS} characters, at most {passwords.MAX_BYTES} bytes in UTF-8."
    described = {"format": "password", "description": rules, "minLength": shortest, "maxLength": passwords.MAX_BYTES}
    return fields.String(required=True, validate=check, metadata=described)


def _new_password() -> fields.String:
    return _password(passwords.unfit, passwords.MIN_CHARACTERS)


class _Address(fields.Email):
    """An e-mail address. Its length is looked at first: the pattern takes a third of a second for a megabyte."""

    def __init__(self, *, longest: int) -> None:
        super().__init__(required=True, validate=validate.Length(max=longest))
        self._longest = longest

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **options)
        if len(text) > self._longest:
            raise ma.ValidationError(f"Longer than maximum length {self._longest}.")
        return text


class RegisterSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"email": "ada@example.org", "password": "correct horse battery", "name": "Ada"}]

    email = _Address(longest=254)
    password = _new_password()
    name = PlainText(required=True, longest=100)


class LoginSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"email": "ada@example.org", "password": "correct horse battery"}]

    # Not checked to be an address: one that is none has no account, and is told so like any other.
    email = PlainText(required=True, longest=254)
    password = _password(passwords.unusable)


class RenameSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"name": "Ada Lovelace"}]

    name = PlainText(longest=100)


class ChangePasswordSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"current_password": "correct horse battery", "new_password": "a better one now"}]

    current_password = _password(passwords.unusable)
    new_password = _new_password()


class AccountSchema(Schema):
    id = fields.UUID(required=True)
    email = fields.String(required=True)
    name = fields.String(required=True)
    role = fields.String(required=True, validate=validate.OneOf(list(UserRole)))
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class QuotaSchema(Schema):
    """Tokens of a day, which is one in UTC."""

    tokens_per_day = fields.Integer(required=True)
    used = fields.Integer(required=True, metadata={"description": "By turns that have ended today."})
    reserved = fields.Integer(required=True, metadata={"description": "Set aside for turns that are running."})
    remaining = fields.Integer(required=True, metadata={"description": "What a turn could still take."})
    resets_at = fields.DateTime(required=True, metadata={"description": "When the next day begins."})


class OwnAccountSchema(AccountSchema):
    quota = fields.Nested(
        QuotaSchema, metadata={"description": "Absent where tokens are not counted.", "x-optional": True}
    )


class TokensSchema(Schema):
    access_token = fields.String(required=True)
    refresh_token = fields.String(required=True)
    token_type = fields.String(required=True, validate=validate.Equal("Bearer"))
    expires_in = fields.Integer(required=True, metadata={"description": "Life of the access token, in seconds."})


class LoggedInSchema(TokensSchema):
    user = fields.Nested(AccountSchema, required=True)
