"""Accounts and their tokens."""

from collections.abc import Callable

import marshmallow as ma
from marshmallow import fields, validate

from app.api.schemas.base import PlainText, Schema
from app.models import UserRole
from app.services import passwords


def _password(complaint_about: Callable[[str], str | None]) -> fields.String:
    """Never trimmed, never cut: what cannot be taken whole is refused."""

    def check(password: str) -> None:
        if complaint := complaint_about(password):
            raise ma.ValidationError(complaint)

    rules = f"At least {passwords.MIN_CHARACTERS} characters, at most {passwords.MAX_BYTES} bytes in UTF-8."
    return fields.String(required=True, validate=check, metadata={"format": "password", "description": rules})


class RegisterSchema(Schema):
    email = fields.Email(required=True, validate=validate.Length(max=254))
    password = _password(passwords.unfit)
    name = PlainText(required=True, longest=100)


class LoginSchema(Schema):
    # Not checked to be an address: one that is none has no account, and is told so like any other.
    email = PlainText(required=True, longest=254)
    password = _password(passwords.unusable)


class RenameSchema(Schema):
    name = PlainText(longest=100)


class ChangePasswordSchema(Schema):
    current_password = _password(passwords.unusable)
    new_password = _password(passwords.unfit)


class AccountSchema(Schema):
    id = fields.UUID(required=True)
    email = fields.String(required=True)
    name = fields.String(required=True)
    role = fields.String(required=True, validate=validate.OneOf(list(UserRole)))
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class TokensSchema(Schema):
    access_token = fields.String(required=True)
    refresh_token = fields.String(required=True)
    token_type = fields.String(required=True, validate=validate.Equal("Bearer"))
    expires_in = fields.Integer(required=True, metadata={"description": "Life of the access token, in seconds."})


class LoggedInSchema(TokensSchema):
    user = fields.Nested(AccountSchema, required=True)
