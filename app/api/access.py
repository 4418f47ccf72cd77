"""Who may enter: each blueprint declares one `Access`, and `admit` enforces it before any of its views runs.

A caller is a person with the access token of a session, or a program with an API key. A key opens what its owner's
token would, as far as its scopes go: `scope_for` says which of them a request needs.
"""

import enum
import hmac
import ipaddress
from typing import cast
from uuid import UUID

from flask import g, request
from jwt import PyJWTError

from app.errors import NotAllowed, NotAuthenticated
from app.models import KeyScope, UserRole
from app.services import api_keys, sessions
from app.services.container import services
from app.services.identity import Identity
from app.services.signing_keys import verified_claims


class Access(enum.Enum):
    """PUBLIC anybody; USER a live session or key; PERSON a live session, for what no program may do; TURN a valid token
    or a key, whose life **begin** checks in its own statement; OPERATOR and ADMIN as USER, of at least that role; OPS
    whoever watches the server, see `ops_caller`."""

    PUBLIC = "public"
    USER = "user"
    PERSON = "person"
    TURN = "turn"
    OPERATOR = "operator"
    ADMIN = "admin"
    OPS = "ops"


_SAID = {
    "ExpiredSignatureError": "The token has expired; get a new one from `POST /api/auth/refresh` or log in.",
    "UnknownSigningKey": "The token was signed by a key that this server does not use or no longer accepts; "
    "log in again.",
}
_WRONG_TYPE = "A token of the wrong type was sent: access tokens open the API, refresh tokens only `/api/auth/refresh`."
_ROLES = {
    Access.OPERATOR: {UserRole.OPERATOR, UserRole.ADMIN},
    Access.ADMIN: {UserRole.ADMIN},
}
_CLAIMED = "parley.claimed"  # in the request's environment
_READING = {"GET", "HEAD"}
# A proxy on this machine lets others in, and says so.
_PASSED_ON = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


def scope_for(access: Access, method: str, chosen: KeyScope | None = None) -> KeyScope | None:
    """The scope that an API key needs for `method`; None where no key opens anything, or anybody may enter anyway.

    `chosen` is a blueprint's own, for all its methods.
    """
    if access in (Access.PUBLIC, Access.PERSON, Access.OPS):
        return None
    if access in _ROLES:
        return KeyScope.ADMIN
    if access is Access.TURN:
        return KeyScope.CHAT
    return chosen or (KeyScope.READ if method in _READING else KeyScope.WRITE)


def caller() -> Identity:
    """Who is calling; only in views whose blueprint is neither PUBLIC nor OPS."""
    return cast(Identity, g.identity)


def admit(access: Access, scope: KeyScope | None) -> None:
    """Let the request pass or raise `NotAuthenticated` or `NotAllowed`. A preflight carries no token by design."""
    if access is Access.PUBLIC or request.method == "OPTIONS":
        return
    if access is Access.OPS:
        _admit_ops()
        return
    identity = claimed()
    if access is not Access.TURN:
        identity = _identified(identity, scope)
        if access in _ROLES and identity.role not in _ROLES[access]:
            raise NotAllowed("This needs the role of an operator or admin.")
    g.identity = identity


def claimed() -> Identity:
    """Whom the request names as its caller: verified, if by a token; merely read, if by an API key.

    Raises `NotAuthenticated`. Found out once in a request, and kept with it: `g` may outlive it.
    """
    found: Identity | NotAuthenticated | None = request.environ.get(_CLAIMED)
    if found is None:
        sent = _sent_key()
        try:
            found = token_identity(refresh=False) if sent is None else api_keys.read(sent)
        except NotAuthenticated as error:
            found = error
        request.environ[_CLAIMED] = found
    if isinstance(found, NotAuthenticated):
        raise found
    return found


def ops_caller() -> bool:
    """Whether the caller may see how the server is doing.

    With OPS_TOKEN set: who sends it as bearer token. Without: anybody, as long as the server listens on a loopback
    address only and the request was not passed on by a proxy.
    """
    server = services().settings.server
    if server.ops_token is not None:
        wanted = server.ops_token.get_secret_value().encode()
        return hmac.compare_digest(_bearer().encode("latin-1", "replace"), wanted)  # WSGI's bytes are Latin-1
    return _is_loopback(server.host) and not any(name in request.headers for name in _PASSED_ON)


def note_use() -> None:
    """The caller's API key, if it came with one, has been verified: this goes into `last_used_at`, a moment later."""
    services().key_uses.note(caller())


def token_identity(*, refresh: bool) -> Identity:
    """The caller by the request's token alone, which must be of the wanted type. Raises `NotAuthenticated`."""
    try:
        claims = verified_claims(_sent_token())
        if claims.get("type", "access") != ("refresh" if refresh else "access"):
            raise NotAuthenticated(_WRONG_TYPE)
        return Identity(UUID(claims["sub"]), UUID(claims["sid"]))
    except (PyJWTError, LookupError, ValueError, TypeError, AttributeError) as error:
        # LookupError: a claim is missing. The last three: it holds something else than text.
        raise NotAuthenticated(_SAID.get(type(error).__name__)) from None


def _sent_token() -> str:
    """The request's only bearer token. The header may be a list, as some proxies make of two headers."""
    items = [item.split() for item in request.headers.get("Authorization", "").strip().strip(",").split(",")]
    bearers = [words for words in items if words[:1] == ["Bearer"]]
    if [] in items or len(bearers) != 1 or len(bearers[0]) != 2:
        raise NotAuthenticated
    return bearers[0][1]


def _sent_key() -> str | None:
    """The API key in the request's header, as it was sent; None where the header holds something else, or nothing."""
    credential = _bearer()
    return credential if credential.startswith(api_keys.MARK) else None


def _bearer() -> str:
    scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
    return credential.strip(" ") if scheme.lower() == "bearer" else ""


def _admit_ops() -> None:
    if ops_caller():
        return
    if services().settings.server.ops_token is not None:
        raise NotAuthenticated("This is for whoever watches the server: send `Authorization: Bearer <OPS_TOKEN>`.")
    raise NotAllowed(
        "Without OPS_TOKEN this is open only to callers on the server's own machine, and only while it listens on a "
        "loopback address; set OPS_TOKEN and send it as bearer token."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _identified(identity: Identity, scope: KeyScope | None) -> Identity:
    if identity.key is None:
        return sessions.identify(identity)
    identity = api_keys.identify(identity, scope)
    services().key_uses.note(identity)
    return identity
