"""Errors of the MCP endpoint: JSON-RPC errors with their HTTP statuses, and a log line for each refusal.

All errors of `/mcp` have a JSON-RPC body, those of Parley's error tree too: an MCP client reads nothing else.
"""

import logging
from typing import Any

import orjson
from flask import Response, g
from mcp_types.jsonrpc import INTERNAL_ERROR, INVALID_REQUEST, JSONRPC_VERSION

from app.encoding import encode_json

_log = logging.getLogger("parley.mcp")

_SHOWN = 300  # characters of a reason in the log; a reason can quote what the client sent
_PROBLEM = "application/problem+json"


class McpError(Exception):
    """A JSON-RPC error of a request. `status` is the HTTP status, `data` are JSON values for the client."""

    def __init__(self, code: int, message: str, *, status: int = 400, data: Any = None) -> None:
        self.code, self.message, self.status, self.data = code, message, status, data
        super().__init__(message)


def set_request_id(request_id: int | str) -> None:
    """Remember the id that the response to the current request repeats."""
    g.mcp_request_id = request_id


def error_response(error: McpError) -> Response:
    """Return the response of an error, and log why the request was refused."""
    _log_refusal(error.message, error.status, error.code)
    return Response(_body(error.code, error.message, error.data), error.status, content_type="application/json")


def translate_problem(response: Response) -> Response:
    """Return a problem of the API as a JSON-RPC error with the same status and headers; others unchanged.

    Such a problem is raised before the message is read, for example by the rate limits, or in a service.
    """
    if response.mimetype != _PROBLEM:
        return response
    problem = orjson.loads(response.get_data())
    code = INTERNAL_ERROR if response.status_code >= 500 else INVALID_REQUEST
    _log_refusal(problem["detail"], response.status_code, problem["code"])
    response.set_data(_body(code, problem["detail"], problem))
    response.content_type = "application/json"
    return response


def _log_refusal(reason: str, status: int, code: int | str) -> None:
    _log.info("MCP request refused: %s", reason[:_SHOWN], extra={"status": status, "code": code})


def _body(code: int, message: str, data: Any) -> bytes:
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return encode_json({"jsonrpc": JSONRPC_VERSION, "id": g.get("mcp_request_id"), "error": error})
