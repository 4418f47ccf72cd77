"""Error responses in the description, derived from the error tree and its status codes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from werkzeug.http import HTTP_STATUS_CODES

from app.api.errors import status_of
from app.api.openapi.names import problem_name
from app.errors import ParleyError, SettingsError

PROBLEM = "Problem"  # name of the schema of all errors, also of those that no operation lists, such as 405
MEDIA_TYPE = "application/problem+json"
RETRY_STATUSES = {409, 429, 503}  # responses that may have Retry-After

Kind = type[ParleyError]


def tree(root: Kind = ParleyError) -> Iterator[Kind]:
    """Yield `root` and its subclasses, except `SettingsError`, which no response reports."""
    if root is not SettingsError:
        yield root
        for kind in root.__subclasses__():
            yield from tree(kind)


def problem_schema() -> dict[str, Any]:
    """Return the JSON Schema of all errors (RFC 9457)."""
    kinds = list(tree())
    identifier = {"type": "string", "format": "uuid"}
    properties = {
        "type": {"type": "string", "format": "uri", "description": "`urn:parley:problem:` followed by the code."},
        "title": {"type": "string", "description": "The standard text of the status."},
        "status": {
            "type": "integer",
            "minimum": 400,
            "maximum": 599,
            "description": "The HTTP status.",
        },
        "detail": {"type": "string", "description": "What is wrong and what to do, for people."},
        "code": {
            "type": "string",
            "enum": [*dict.fromkeys(kind.code for kind in kinds), "method_not_allowed"],
            "description": "The kind of error, for programs.",
        },
        "request_id": {"type": "string", "description": "Include it when you report the problem."},
        "errors": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
            "description": "Messages by field; a nested field is written `outer.inner`.",
        },
        "turn_id": {**identifier, "description": "Id of the failed turn."},
        "conversation_id": {**identifier, "description": "Id of the conversation of the failed turn."},
    }
    required = ["type", "title", "status", "detail", "code", "request_id"]
    return {"type": "object", "properties": properties, "required": required}


def narrowed_schema(status: int, kinds: Iterable[Kind]) -> tuple[str, dict[str, Any]]:
    """Return name and JSON Schema of the errors `kinds`, which all have this status.

    All properties are repeated: generators of clients cannot combine an enumeration with a narrower one.
    """
    kinds = list(kinds)
    schema = problem_schema()
    schema["properties"]["status"] = {"type": "integer", "const": status, "description": "The HTTP status."}
    schema["properties"]["code"] = {
        "type": "string",
        "enum": [kind.code for kind in kinds],
        "description": "The kind of error, for programs.",
    }
    return f"{name_of(kinds).replace('.', 'Or')}Problem", schema


def by_status(kinds: Iterable[Kind]) -> dict[int, list[Kind]]:
    """Group `kinds` by HTTP status, each group in the order of the tree."""
    selected, groups = set(kinds), defaultdict(list)
    for kind in tree():
        if kind in selected:
            groups[status_of(kind())].append(kind)
    return dict(groups)


def name_of(kinds: Iterable[Kind]) -> str:
    """Return the name of the response for `kinds` in the components."""
    return problem_name([kind.code for kind in kinds])


def response(status: int, kinds: Iterable[Kind]) -> dict[str, Any]:
    """Return the response for `kinds`, which all have this status."""
    kinds = list(kinds)
    headers: dict[str, Any] = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"const": "Bearer"}, "required": True}
    if status in RETRY_STATUSES:
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    return {
        "description": " Or: ".join(kind.default_detail for kind in kinds),
        "headers": headers,
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": f"#/components/schemas/{narrowed_schema(status, kinds)[0]}"},
                "examples": {kind.code: {"value": _example(status, kind)} for kind in kinds},
            }
        },
    }


def _example(status: int, kind: Kind) -> dict[str, Any]:
    return {
        "type": f"urn:parley:problem:{kind.code}",
        "title": HTTP_STATUS_CODES[status],
        "status": status,
        "detail": kind.default_detail,
        "code": kind.code,
        "request_id": "01981c5e9d1f7c3e8a4b2f6d0c9e7a51",
    }
