"""Access control: each blueprint declares one `Access`, which `admit` enforces before any of its views runs.

A caller sends the access token of a session, or an API key. A key gives the access of its owner, limited to its scopes:
`scope_for` returns the scope that a request needs.
"""

import enum
import hmac
import ipaddress
from typing import cast
from uuid import UUID

from flask import g, request
from jwt import PyJWTError

from app.container import services
from app.enums import KeyScope, UserRole
from app.errors import NotAuthenticated, PermissionDenied
from app.services import api_keys, sessions, tickets
from app.services.identity import Identity
from app.services.signing_keys import verified_claims


class Access(enum.Enum):
    """The callers that a blueprint admits."""

    PUBLIC = "public"  # all callers
    USER = "user"  # a live session or API key
    SESSION = "session"  # a live session only
    TURN = "turn"  # a valid token or API key; the statement that begins the turn checks that it is live
    TICKET = "ticket"  # as USER, or a ticket for the turn in the path as the parameter `ticket` of the query
    OPERATOR = "operator"  # as USER, with the role operator or admin
    ADMIN = "admin"  # as USER, with the role admin
    OPS = "ops"  # monitoring, see `is_ops_caller`


_DETAILS = {
    "ExpiredSignatureError": "The token has expired; get a new one from `POST /api/auth/refresh` or log in.",
    "UnknownSigningKey": "The token was signed with a key that this server does not accept; log in again.",
}
_WRONG_TYPE = "The token has the wrong type: send a refresh token to `/api/auth/refresh`, an access token elsewhere."
_ROLES = {
    Access.OPERATOR: {UserRole.OPERATOR, UserRole.ADMIN},
    Access.ADMIN: {UserRole.ADMIN},
}
_IDENTITY = "parley.identity"  # key in the request's environment
_ADMITTED = "parley.admitted"
_REFUSED = "parley.refused"  # the verified identity of a caller whose role or key does not suffice
_READ_METHODS = {"GET", "HEAD"}
# Set by proxies: a request with one of these may come from another machine.
_FORWARDING_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


def scope_for(access: Access, method: str, chosen: KeyScope | None = None) -> KeyScope | None:
    """Return the scope that an API key needs for `method`, or None if keys are not accepted or not needed.

    `chosen` is a blueprint's own scope for all methods.
    """
    if access in (Access.PUBLIC, Access.SESSION, Access.OPS):
        return None
    if access in _ROLES:
        return KeyScope.ADMIN
    if access is Access.TURN:
        return KeyScope.CHAT
    return chosen or (KeyScope.READ if method in _READ_METHODS else KeyScope.WRITE)


def caller() -> Identity:
    """Return the caller of the current request, in views whose blueprint is neither PUBLIC nor OPS."""
    return cast(Identity, g.identity)


def admit(access: Access, scope: KeyScope | None) -> None:
    """Admit the request, or raise `NotAuthenticated` or `PermissionDenied`. A CORS preflight carries no token."""
    if access is Access.PUBLIC or request.method == "OPTIONS":
        return
    if access is Access.OPS:
        _admit_ops()
        return
    identity = presented_identity(access)
    if _sends_ticket(access):
        tickets.check(identity, _turn_id())
    elif access is not Access.TURN:
        try:
            identity = _identified(identity, scope)
            if access in _ROLES and identity.role not in _ROLES[access]:
                raise PermissionDenied("This requires the role of an operator or admin.")
        except PermissionDenied:
            request.environ[_REFUSED] = identity
            raise
    g.identity = identity
    request.environ[_ADMITTED] = True


def require_scope(scope: KeyScope) -> None:
    """Raise `PermissionDenied` if the caller is an API key without `scope`."""
    identity = caller()
    if identity.key is None:
        return
    try:
        api_keys.identify(identity, scope)
    except PermissionDenied:
        request.environ[_REFUSED] = identity
        raise


def was_admitted() -> bool:
    """Return whether `admit` let the current request through to its view."""
    return _ADMITTED in request.environ


def refused_identity() -> Identity | None:
    """Return the verified identity that `admit` refused for its role or scope, or None."""
    return cast("Identity | None", request.environ.get(_REFUSED))


def presented_identity(access: Access) -> Identity:
    """Return the identity in the request's credential: a token or ticket is verified, an API key is only parsed.

    Raises `NotAuthenticated`. The result is cached in the request's environment, because `g` can outlive a request.
    """
    result: Identity | NotAuthenticated | None = request.environ.get(_IDENTITY)
    if result is None:
        key = _sent_key()
        try:
            if _sends_ticket(access):
                result = tickets.verify(request.args["ticket"], _turn_id())
            else:
                result = token_identity(refresh=False) if key is None else api_keys.parse(key)
        except NotAuthenticated as error:
            result = error
        request.environ[_IDENTITY] = result
    if isinstance(result, NotAuthenticated):
        raise result
    return result


def proven_identity(access: Access) -> Identity | None:
    """Return the identity in the request's credential if the credential is proven to be genuine.

    The signature of a token or ticket proves it. An API key must be looked up in the database: it is proven once this
    process has seen it verified, which it caches for a minute.
    """
    if access in (Access.PUBLIC, Access.OPS):
        return None
    try:
        identity = presented_identity(access)
    except NotAuthenticated:
        return None
    return identity if identity.key is None or services().key_uses.is_verified(identity) else None


def _sends_ticket(access: Access) -> bool:
    return access is Access.TICKET and "ticket" in request.args


def _turn_id() -> UUID:
    turn_id: UUID = (request.view_args or {})["turn_id"]
    return turn_id


def is_ops_caller() -> bool:
    """Return whether the caller may read metrics and health details.

    With OPS_TOKEN, the caller must send it as bearer token. Without it, the server must bind to a loopback address
    and no proxy may have forwarded the request.
    """
    server = services().settings.server
    if server.ops_token is not None:
        expected = server.ops_token.get_secret_value().encode()
        return hmac.compare_digest(_bearer().encode("latin-1", "replace"), expected)  # WSGI decodes as Latin-1
    return is_loopback(server.host) and not any(name in request.headers for name in _FORWARDING_HEADERS)


def record_key_use() -> None:
    """Record a use of the caller's verified API key, if any, for `last_used_at`; it is written in the background."""
    services().key_uses.note(caller())


def token_identity(*, refresh: bool) -> Identity:
    """Return the identity in the request's token, which must have the given type. Raises `NotAuthenticated`."""
    try:
        claims = verified_claims(_sent_token())
        if claims.get("type", "access") != ("refresh" if refresh else "access"):
            raise NotAuthenticated(_WRONG_TYPE)
        return Identity(UUID(claims["sub"]), UUID(claims["sid"]))
    except (PyJWTError, LookupError, ValueError, TypeError, AttributeError) as error:
        # LookupError: a claim is missing. The last three: a claim is not a string.
        raise NotAuthenticated(_DETAILS.get(type(error).__name__)) from None


def _sent_token() -> str:
    """Return the request's only bearer token. Some proxies join two headers into a list."""
    items = [item.split() for item in request.headers.get("Authorization", "").strip().strip(",").split(",")]
    bearers = [words for words in items if words and words[0].lower() == "bearer"]
    if [] in items or len(bearers) != 1 or len(bearers[0]) != 2:
        raise NotAuthenticated
    return bearers[0][1]


def _sent_key() -> str | None:
    """Return the API key in the request's header, or None if there is none."""
    credential = _bearer()
    return credential if credential.startswith(api_keys.MARK) else None


def _bearer() -> str:
    scheme, *credential = request.headers.get("Authorization", "").split(maxsplit=1) or [""]
    return credential[0].strip() if credential and scheme.lower() == "bearer" else ""


def _admit_ops() -> None:
    if is_ops_caller():
        return
    if services().settings.server.ops_token is not None:
        raise NotAuthenticated("This is for monitoring: send `Authorization: Bearer <OPS_TOKEN>`.")
    raise PermissionDenied(
        "Without OPS_TOKEN this is only for callers on the server's own machine, and only while HOST is a loopback "
        "address; set OPS_TOKEN and send it as bearer token."
    )


def is_loopback(host: str) -> bool:
    """Return whether a server that listens on `host` can be reached from this machine only."""
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
