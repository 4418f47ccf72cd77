"""Responses of an MCP server: JSON or a stream of events, bounded in size, with the result of one request."""

from collections.abc import Iterator
from typing import Any, Final

from app.outbound.transport import Body
from app.providers.sse import EventReader, ProtocolError, lenient_json
from app.text import shortened
from app.tools.mcp.errors import McpError
from app.tools.mcp.requests import Request

MAX_BYTES: Final = 1_048_576  # of a JSON body
MAX_STREAM_BYTES: Final = 4 * 1_048_576  # with notifications, which are not for us
REASON_CHARS: Final = 300

_ACCEPTED, _REDIRECT, _CLIENT_ERROR, _SERVER_ERROR = 202, 300, 400, 500
_REFUSED = {401: "rejected the credentials", 403: "rejected the credentials or the address of the caller"}
_TEMPORARY = (429, 502, 503, 504)


def read_result(body: Body, sent: Request) -> dict[str, Any]:
    """Return the `result` of the response to `sent`. Raises `McpError`, and `OutboundError` from the network."""
    if body.status >= _REDIRECT:
        raise _rejection(body)
    if body.status == _ACCEPTED:
        raise McpError("accepted the request but gave no answer", uncertain=True, alive=True)
    message = _response(body, sent)
    error, result = message.get("error"), message.get("result")
    if error is not None:
        raise _json_rpc_error(error, body.status)
    if not isinstance(result, dict):
        raise _invalid("sent an answer whose result is not an object")
    return result


def _response(body: Body, sent: Request) -> dict[str, Any]:
    kind = body.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        messages = _events(body) if kind == "text/event-stream" else _documents(_all(body))
        for message in messages:
            if (
                isinstance(message, dict)
                and message.get("id") == sent.id
                and ("result" in message or "error" in message)
            ):
                body.finish()
                return message
    except ProtocolError as error:
        raise _invalid(str(error)) from None
    raise _invalid("ended its answer without a response to the request")


def _events(body: Body) -> Iterator[Any]:
    reader, received = EventReader(), 0
    while piece := body.read():
        received += len(piece)
        if received > MAX_STREAM_BYTES:
            raise _too_large(MAX_STREAM_BYTES)
        yield from reader.feed(piece)
    yield from reader.end()


def _all(body: Body) -> bytes:
    pieces, received = [], 0
    while piece := body.read():
        received += len(piece)
        if received > MAX_BYTES:
            raise _too_large(MAX_BYTES)
        pieces.append(piece)
    return b"".join(pieces)


def _documents(data: bytes) -> Iterator[Any]:
    document = lenient_json(data)
    yield from document if isinstance(document, list) else [document]  # 2025-03-26 allowed batches


def _rejection(body: Body) -> McpError:
    """Return the error of a response whose status is none of success."""
    if body.status < _CLIENT_ERROR:
        return McpError(
            "redirected the request, which is not followed: register the final URL", alive=True, status=body.status
        )
    data = body.read_error()
    document: Any = None
    if body.headers.get("content-type", "").lower().startswith("application/json"):
        try:
            document = lenient_json(data)
        except ProtocolError:
            document = None
    if isinstance(document, dict) and isinstance(document.get("error"), dict):
        return _json_rpc_error(document["error"], body.status)
    reason = shortened(data.decode("utf-8", "replace"), REASON_CHARS)
    if message := _REFUSED.get(body.status):
        return McpError(message, reason=reason, alive=True, status=body.status)
    return McpError(
        f"answered with the status {body.status}",
        reason=reason,
        uncertain=body.status >= _SERVER_ERROR and body.status not in _TEMPORARY,
        alive=body.status < _SERVER_ERROR,
        status=body.status,
    )


def _json_rpc_error(error: Any, status: int) -> McpError:
    fields = error if isinstance(error, dict) else {}
    code, text = fields.get("code"), fields.get("message")
    return McpError(
        _REFUSED.get(status, "rejected the request"),
        reason=shortened(text, REASON_CHARS) if isinstance(text, str) else "",
        alive=True,
        code=code if isinstance(code, int) else None,
        status=status,
    )


def _too_large(limit: int) -> McpError:
    return McpError(f"sent more than {limit} bytes", uncertain=True, alive=True)


def _invalid(message: str) -> McpError:
    return McpError(message, uncertain=True)
