"""The reason that the body of an error gives, in any of the shapes in use."""

from typing import Any

import orjson

_MESSAGE_FIELDS = (
    *("message", "detail", "msg", "errormessage", "errormsg", "errordescription", "description", "reason"),
    *("statusmsg", "statusmessage", "faultstring", "exception", "text", "title", "fault", "baseresp", "response"),
)
_DEPTH = 8  # of nested errors that are read


def reason_of(error: Any, depth: int = 0) -> tuple[str, str]:
    """Return the message of an error body in any of the shapes in use, and its code, type and status as one text.

    OpenAI's `{"error": {"message"}}`, vLLM's `{"object": "error", "message"}`, FastAPI's `{"detail"}` with a text or a
    list, `{"error": "text"}`, Google's list of one, Cloudflare's `{"errors": [...]}`, and a plain text. OpenRouter's
    `metadata.raw` is what the server behind it said.
    """
    if isinstance(error, list):
        error = error[0] if error else None
    if isinstance(error, str):
        return error, ""
    if not isinstance(error, dict) or depth == _DEPTH:
        return "", ""
    fields = {str(name).lower().replace("_", ""): value for name, value in error.items() if value}
    message, code = reason_of(fields.get("error") or fields.get("errors"), depth + 1)
    for name in _MESSAGE_FIELDS:
        if not message and name in fields:
            message = _message_of(fields[name], depth)
    if isinstance(metadata := fields.get("metadata"), dict) and metadata.get("raw"):
        message = f"{message}: {_message_of(metadata['raw'], depth)}"
    own = " ".join(str(fields[name]) for name in ("code", "type", "status", "statuscode") if _is_word(fields.get(name)))
    return message, f"{code} {own}".strip()


def _message_of(value: Any, depth: int) -> str:
    if isinstance(value, list):  # FastAPI: an entry for each invalid field
        return "; ".join(filter(None, (reason_of(entry, depth + 1)[0] for entry in value)))
    return value if isinstance(value, str) else reason_of(value, depth + 1)[0]


def _is_word(value: Any) -> bool:
    return isinstance(value, str | int) and bool(value)


def json_text(value: Any) -> str:
    """Return a value as JSON, an empty text if it is nested too deeply."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return ""
