"""How each error looks in the description: derived from the error tree and from the status of each of its classes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from werkzeug.http import HTTP_STATUS_CODES

from app.api.errors import status_of
from app.errors import ParleyError, SettingsError

MEDIA_TYPE = "application/problem+json"
RETRY_STATUSES = {409, 429, 503}  # whose answers may say when it is worth to try again

Kind = type[ParleyError]


def tree(root: Kind = ParleyError) -> Iterator[Kind]:
    """`root` and everything below it, but for what ends a process before it answers anybody."""
    if root is not SettingsError:
        yield root
        for kind in root.__subclasses__():
            yield from tree(kind)


def problem_schema() -> dict[str, Any]:
    """The one shape of all errors (RFC 9457), as JSON Schema."""
    kinds = list(tree())
    identifier = {"type": "string", "format": "uuid"}
    properties = {
        "type": {"type": "string", "format": "uri", "description": "`urn:parley:problem:` and the code."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "enum": sorted({status_of(kind()) for kind in kinds} | {405})},
        "detail": {"type": "string", "description": "What is wrong and what to do, for a person."},
        "code": {
            "type": "string",
            "enum": [*dict.fromkeys(kind.code for kind in kinds), "method_not_allowed"],
            "description": "What went wrong, for a program.",
        },
        "request_id": {"type": "string", "description": "Name it when you report the problem."},
        "errors": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
            "description": "Complaints by field; a field within another is written `outer.inner`.",
        },
        "turn_id": {**identifier, "description": "Of the turn that failed."},
        "conversation_id": {**identifier, "description": "Of the conversation in which a turn failed."},
    }
    required = ["type", "title", "status", "detail", "code", "request_id"]
    return {"type": "object", "properties": properties, "required": required}


def by_status(kinds: Iterable[Kind]) -> dict[int, list[Kind]]:
    """`kinds` by their HTTP status, each in the order of the tree."""
    wanted, found = set(kinds), defaultdict(list)
    for kind in tree():
        if kind in wanted:
            found[status_of(kind())].append(kind)
    return dict(found)


def name_of(kinds: Iterable[Kind]) -> str:
    """The name under which the components hold the response for `kinds`."""
    return ".".join("".join(word.capitalize() for word in kind.code.split("_")) for kind in kinds)


def response(status: int, kinds: Iterable[Kind]) -> dict[str, Any]:
    """The response for `kinds`, which all have this status."""
    kinds = list(kinds)
    headers: dict[str, Any] = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"const": "Bearer"}, "required": True}
    if status in RETRY_STATUSES:
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    narrowed = {"properties": {"status": {"const": status}, "code": {"enum": [kind.code for kind in kinds]}}}
    return {
        "description": " Or: ".join(kind.default_detail for kind in kinds),
        "headers": headers,
        "content": {
            MEDIA_TYPE: {
                "schema": {"allOf": [{"$ref": "#/components/schemas/Problem"}, narrowed]},
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
