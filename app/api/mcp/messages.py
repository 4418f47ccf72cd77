"""The message in a request to `/mcp`: one JSON-RPC request or notification.

Batches are refused: the current revision of MCP has none, and the one earlier revision with batches made them optional
for no client that is known to send them.
"""

from dataclasses import dataclass
from typing import Any

import orjson
from flask import request
from mcp_types.jsonrpc import INVALID_REQUEST, JSONRPC_VERSION, PARSE_ERROR

from app.api.mcp.errors import McpError, set_request_id
from app.api.parsing import body_of, refuse_unstorable_in
from app.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a client. A notification has no `id` and gets no result."""

    method: str
    params: dict[str, Any]
    id: int | str | None = None

    @property
    def meta(self) -> dict[str, Any]:
        """The `_meta` of the parameters; empty if there is none, or if it is no object."""
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}


def read_message() -> Message:
    """Return the message in the current request's body. Raises `McpError`, and the errors of reading a body."""
    raw = body_of(request)
    if not request.is_json:
        raise McpError(INVALID_REQUEST, "Send the message as JSON, with `Content-Type: application/json`.")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        position = f"line {error.lineno}, column {error.colno}"
        raise McpError(PARSE_ERROR, f"The body is not valid JSON in UTF-8: {error.msg} ({position}).") from None
    if isinstance(body, list):
        raise McpError(INVALID_REQUEST, "Batches are not supported: send each message in its own request.")
    if not isinstance(body, dict):
        raise McpError(INVALID_REQUEST, "The body must be one JSON-RPC message, an object.")
    if _is_id(body.get("id")):
        set_request_id(body["id"])
    message = _parsed(body)
    try:
        refuse_unstorable_in(raw, body)
    except InvalidInput as error:
        [(path, problems)] = (error.fields or {}).items()
        raise McpError(INVALID_REQUEST, f"{path}: {problems[0]}") from None
    return message


def _parsed(body: dict[str, Any]) -> Message:
    if body.get("jsonrpc") != JSONRPC_VERSION:
        raise McpError(INVALID_REQUEST, 'The message is not JSON-RPC 2.0: it needs `"jsonrpc": "2.0"`.')
    if "method" not in body:
        raise McpError(INVALID_REQUEST, "The message has no `method`: this server takes requests and notifications.")
    method, params = body["method"], body.get("params", {})
    if not isinstance(method, str):
        raise McpError(INVALID_REQUEST, "The `method` must be a string.")
    if not isinstance(params, dict):
        raise McpError(INVALID_REQUEST, "The `params` must be an object.")
    if "id" in body and not _is_id(body["id"]):
        raise McpError(INVALID_REQUEST, "The `id` of a request must be a string or an integer.")
    return Message(method, params, body.get("id"))


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)
