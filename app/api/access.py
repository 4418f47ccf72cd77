"""Who may enter: each blueprint declares one `Access`, and `admit` enforces it before any of its views runs."""

import enum
from typing import cast
from uuid import UUID

from flask import g, request
from flask_jwt_extended import get_jwt, verify_jwt_in_request
from flask_jwt_extended.exceptions import JWTExtendedException, WrongTokenError
from jwt import PyJWTError

from app.errors import NotAllowed, NotAuthenticated
from app.models import UserRole
from app.services import sessions
from app.services.identity import Identity


class Access(enum.Enum):
    """PUBLIC anybody; USER a live session; TURN a valid token, whose session **begin** checks in its own statement;
    OPERATOR and ADMIN a live session of at least that role."""

    PUBLIC = "public"
    USER = "user"
    TURN = "turn"
    OPERATOR = "operator"
    ADMIN = "admin"


_ROLES = {
    Access.OPERATOR: {UserRole.OPERATOR, UserRole.ADMIN},
    Access.ADMIN: {UserRole.ADMIN},
}


def caller() -> Identity:
    """Who is calling; only in views whose blueprint is not PUBLIC."""
    return cast(Identity, g.identity)


def admit(access: Access) -> None:
    """Let the request pass or raise `NotAuthenticated` or `NotAllowed`. A preflight carries no token by design."""
    if access is Access.PUBLIC or request.method == "OPTIONS":
        return
    identity = token_identity(refresh=False)
    if access is not Access.TURN:
        identity = sessions.identify(identity)
        if access in _ROLES and identity.role not in _ROLES[access]:
            raise NotAllowed("This needs the role of an operator or admin.")
    g.identity = identity


def token_identity(*, refresh: bool) -> Identity:
    """The caller by the request's token alone, which must be of the wanted type. Raises `NotAuthenticated`."""
    try:
        verify_jwt_in_request(refresh=refresh)
        claims = get_jwt()
        # To Flask-JWT-Extended, whatever is not a refresh token is an access token.
        if claims["type"] != ("refresh" if refresh else "access"):
            raise WrongTokenError
        return Identity(UUID(claims["sub"]), UUID(claims["sid"]))
    except (JWTExtendedException, PyJWTError, LookupError, ValueError, TypeError, AttributeError) as error:
        # LookupError: a claim is missing, or the header is a list whose first item is blank.
        raise NotAuthenticated(_say(error)) from None


def _say(error: Exception) -> str | None:
    name = type(error).__name__
    if name == "ExpiredSignatureError":
        return "The token has expired; get a new one from `POST /api/auth/refresh` or log in."
    if name == "WrongTokenError":
        return (
            "A token of the wrong type was sent: access tokens open the API, refresh tokens only `/api/auth/refresh`."
        )
    return None
