"""What holds for the whole API: the introduction, how callers identify themselves, headers that are everywhere."""

from typing import Any

from app.api.access import Access
from app.models import KeyScope

_INTRODUCTION = """\
Parley keeps conversations and answers in them through an AI provider.

**Begin** with `POST /api/auth/register` or `/api/auth/login`; send the access token as `Authorization: Bearer <token>`.
It lasts some minutes; `POST /api/auth/refresh` gives the next. A program sends an API key in the same header instead.

**Errors** are `application/problem+json` with a `code` for programs and a `detail` for people. What belongs to somebody
else is answered like what does not exist: 404.

**Bodies** are JSON objects in UTF-8. Unknown fields are refused, and so are NUL characters and lone surrogates wherever
they stand.

**Lists** come in pages: `next_cursor` leads to the next one and is null on the last.

**Requests** carry an id, `X-Request-ID`: yours or one of ours. It comes back with the answer, whatever that is.

**Limits** hold for requests a minute; `X-RateLimit-Limit`, `-Remaining` and `-Reset` tell of the nearest. Beyond a
limit the answer is 429, and `Retry-After` says when it is worth to come back.

**Methods** that a path does not have are answered 405. HEAD goes wherever GET goes.
"""

GENERAL: dict[str, Any] = {
    "info": {"description": _INTRODUCTION},
    "servers": [{"url": "/", "description": "The server that you have this from."}],
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
        "description": "An API key of a person's, `prl_...`, with the scope that the operation names. It opens what"
        " its owner's token opens, but not the account itself.",
    },
    "refreshToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The refresh token of a login. It is good once.",
    },
    "opsToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The server's OPS_TOKEN. Where none is set, a server that listens on a loopback address alone"
        " lets in whoever is on its machine.",
    },
}

PARAMETERS: dict[str, dict[str, Any]] = {
    "RequestId": {
        "in": "header",
        "name": "X-Request-ID",
        "required": False,
        "schema": {"type": "string"},
        "description": "Your name for this request: 1 to 64 letters, digits, `.`, `_` and `-`. Any other is replaced.",
    },
}

HEADERS: dict[str, dict[str, Any]] = {
    "RequestId": {
        "description": "The request's id, as the server's logs have it.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "RetryAfter": {
        "description": "Seconds after which it is worth to try again; absent where waiting may not help.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "XRateLimitLimit": {
        "description": "Requests that the limit nearest to being reached allows in its minute.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "XRateLimitRemaining": {
        "description": "How many of them are left.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "XRateLimitReset": {
        "description": "When the minute ends and all of them are there again, in seconds since 1970.",
        "schema": {"type": "integer", "minimum": 0},
    },
}
LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


_PEOPLE = {
    Access.PUBLIC: "Open to everybody.",
    Access.OPS: "For whoever watches the server.",
    Access.OPERATOR: "For operators and admins",
    Access.ADMIN: "For admins",
}


def security(access: Access, scope: KeyScope | None) -> list[dict[str, list[str]]]:
    """What opens an operation, each alternative by itself; an API key if there is a scope for it.

    OpenAPI 3.1 could name the scope here, but most tools still know that of OAuth only: `who` says it.
    """
    if access is Access.PUBLIC:
        return []
    if access is Access.OPS:
        return [{"opsToken": []}]
    schemes = ["accessToken", "apiKey"] if scope else ["accessToken"]
    return [{scheme: []} for scheme in schemes]


def who(access: Access, scope: KeyScope | None) -> str:
    """The same as a sentence."""
    if access in (Access.PUBLIC, Access.OPS):
        return _PEOPLE[access]
    people = _PEOPLE.get(access, "For whoever is logged in")
    return f"{people}, and for API keys with the scope `{scope}`." if scope else f"{people}, but not for API keys."
