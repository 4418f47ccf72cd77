"""Parts of the description for the whole API: introduction, security schemes, common headers and parameters."""

from typing import Any

from app.api.access import Access
from app.enums import KeyScope

_INTRODUCTION = """\
Parley stores conversations and answers messages through an AI provider.

**Authentication:** call `POST /api/auth/register` or `/api/auth/login`, then send the access token as
`Authorization: Bearer <token>`. It expires after some minutes; `POST /api/auth/refresh` returns a new one. Programs
send an API key in the same header instead.

**Errors** are `application/problem+json` with a `code` for programs and a `detail` for people. The schema `Problem`
lists all codes. An object of another user gives the same response as a missing one: 404.

**Bodies** are JSON objects in UTF-8. Unknown fields, NUL characters and lone surrogates are refused.

**Lists** are paginated: send `next_cursor` to get the next page; it is null on the last page.

**Request ids:** each request has an id, `X-Request-ID`, sent by you or generated. Every response contains it.

**Rate limits** apply per minute. `X-RateLimit-Limit`, `-Remaining` and `-Reset` describe the limit that is closest to
being reached. Above a limit the response is 429, with `Retry-After`.

**Methods** that a path does not support give 405. Each path with GET also supports HEAD.
"""

GENERAL: dict[str, Any] = {
    "info": {"description": _INTRODUCTION},
    "servers": [{"url": "/", "description": "The server that returned this document."}],
}

SECURITY_SCHEMES: dict[str, dict[str, Any]] = {
    "accessToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access token of a login.",
    },
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, `prl_...`, with the scope that the operation requires. It has the access of its"
        " owner, except to the account itself.",
    },
    "turnTicket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "A ticket of `POST /api/turns/{turn_id}/ticket`, for clients that cannot send headers.",
    },
    "refreshToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The refresh token of a login. It can be used once.",
    },
    "opsToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The server's OPS_TOKEN. Without one, a server on a loopback address admits all callers on its"
        " own machine.",
    },
}

PARAMETERS: dict[str, dict[str, Any]] = {
    "RequestId": {
        "in": "header",
        "name": "X-Request-ID",
        "required": False,
        "schema": {"type": "string"},
        "description": "Your id of this request: 1 to 64 letters, digits, `.`, `_` and `-`. Other values are replaced.",
    },
}

HEADERS: dict[str, dict[str, Any]] = {
    "RequestId": {
        "description": "The id of the request, which the server's logs contain.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "RetryAfter": {
        "description": "Seconds to wait before retrying; absent if waiting may not help.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "XRateLimitLimit": {
        "description": "Requests per minute that the limit closest to being reached allows.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "XRateLimitRemaining": {
        "description": "Requests left in the current minute.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "XRateLimitReset": {
        "description": "End of the current minute, in seconds since 1970; then the full limit is available again.",
        "schema": {"type": "integer", "minimum": 0},
    },
}
LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


_CALLERS = {
    Access.PUBLIC: "Open to all callers.",
    Access.OPS: "For monitoring.",
    Access.OPERATOR: "For operators and admins",
    Access.ADMIN: "For admins",
    Access.TICKET: "For logged-in users, with a ticket of the turn",
}


def security(access: Access, scope: KeyScope | None) -> list[dict[str, list[str]]]:
    """Return the alternative security schemes of an operation; API keys are one of them if it has a scope.

    OpenAPI 3.1 can name the scope here, but most tools support that for OAuth only: `access_sentence` names it.
    """
    if access is Access.PUBLIC:
        return []
    if access is Access.OPS:
        return [{"opsToken": []}]
    schemes = ["accessToken", "apiKey"] if scope else ["accessToken"]
    if access is Access.TICKET:
        schemes.append("turnTicket")
    return [{scheme: []} for scheme in schemes]


def access_sentence(access: Access, scope: KeyScope | None) -> str:
    """Return a sentence that names the callers that an operation admits."""
    if access in (Access.PUBLIC, Access.OPS):
        return _CALLERS[access]
    callers = _CALLERS.get(access, "For logged-in users")
    return f"{callers}, and for API keys with the scope `{scope}`." if scope else f"{callers}, but not for API keys."
