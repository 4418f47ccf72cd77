"""Schemas of registration, login, tokens and accounts."""

from collections.abc import Callable
from typing import Any, ClassVar

import marshmallow as ma
from marshmallow import fields, validate

from app.api.schemas.base import Examples, PlainText, Schema
from app.enums import UserRole
from app.services import passwords
from app.text import address_key


def _password(find_error: Callable[[str], str | None], min_length: int = 0) -> fields.String:
    """Return a password field. Passwords are neither trimmed nor cut: an unsuitable one is refused."""

    def check(password: str) -> None:
        if error := find_error(password):
            raise ma.ValidationError(error)

    rules = (
        f"At least {passwords.MIN_CHARACTERS} characters, at most {passwords.MAX_BYTES} bytes in UTF-8. A new password"
        " may not be a common one."
    )
    described = {"format": "password", "description": rules, "minLength": min_length, "maxLength": passwords.MAX_BYTES}
    return fields.String(required=True, validate=check, metadata=described)


def current_password() -> fields.String:
    """Return the field of a password that may have been chosen under other rules."""
    return _password(passwords.invalid_reason)


def new_password() -> fields.String:
    """Return the field of a password that is chosen."""
    return _password(passwords.unacceptable_reason, passwords.MIN_CHARACTERS)


class Address(fields.Email):
    """An email address. Its length is checked first, because the pattern takes 0.3 s for a megabyte."""

    def __init__(self, *, max_length: int) -> None:
        super().__init__(required=True, validate=validate.Length(max=max_length))
        self._max_length = max_length

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **options)
        if len(text) > self._max_length:
            raise ma.ValidationError(f"Longer than maximum length {self._max_length}.")
        # What the address is looked up by must be an address too, and fit its column.
        key = address_key(text)
        if len(key) > self._max_length:
            raise ma.ValidationError(f"Longer than maximum length {self._max_length}.")
        validate.Email()(key)
        return text


class RegisterSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"email": "ada@example.org", "password": "correct horse battery", "name": "Ada"}]

    email = Address(max_length=254)
    password = new_password()
    name = PlainText(required=True, max_length=100, metadata={"description": "Name of the user."})


class LoginSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"email": "ada@example.org", "password": "correct horse battery"}]

    # Not validated as an address: an invalid one gives the same response as an unknown one.
    email = PlainText(required=True, max_length=254)
    password = current_password()


class RenameSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"name": "Ada Lovelace"}]

    name = PlainText(max_length=100, metadata={"description": "New name of the user."})


class AccountSchema(Schema):
    id = fields.UUID(required=True)
    email = fields.String(required=True)
    name = fields.String(required=True, metadata={"description": "Name of the user."})
    role = fields.String(
        required=True, validate=validate.OneOf(list(UserRole)), metadata={"description": "What the account may do."}
    )
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class QuotaSchema(Schema):
    """The token quota of one day in UTC."""

    tokens_per_day = fields.Integer(required=True, metadata={"description": "Tokens that the user may use."})
    used = fields.Integer(required=True, metadata={"description": "Tokens used by turns that ended today."})
    reserved = fields.Integer(required=True, metadata={"description": "Tokens reserved for running turns."})
    remaining = fields.Integer(required=True, metadata={"description": "Tokens left for new turns."})
    resets_at = fields.DateTime(required=True, metadata={"description": "Start of the next day."})


class StorageSchema(Schema):
    """The bytes that the user stores: of conversations, projects and prompts."""

    used_bytes = fields.Integer(required=True, metadata={"description": "Bytes that the user stores."})
    max_bytes = fields.Integer(required=True, metadata={"description": "Bytes that the user may store; 0: no limit."})


class OwnAccountSchema(AccountSchema):
    storage = fields.Nested(StorageSchema, required=True, metadata={"description": "The stored bytes and their limit."})
    quota = fields.Nested(QuotaSchema, metadata={"description": "Absent if the user has no quota.", "x-optional": True})


class TokensSchema(Schema):
    access_token = fields.String(required=True)
    refresh_token = fields.String(required=True)
    token_type = fields.String(required=True, validate=validate.Equal("Bearer"))
    expires_in = fields.Integer(required=True, metadata={"description": "Lifetime of the access token, in seconds."})


class LoggedInSchema(TokensSchema):
    user = fields.Nested(AccountSchema, required=True, metadata={"description": "The account."})
