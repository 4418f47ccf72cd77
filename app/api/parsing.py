"""How requests are read: strictly, and in one place, before any schema sees them.

Refused as 400: bodies that are not one JSON object, unknown fields, NUL bytes and lone surrogates anywhere (PostgreSQL
cannot store them), invalid UTF-8. orjson refuses surrogates, NaN and deep nesting by itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import gevent
import marshmallow as ma
import orjson
from flask import Request
from gevent import monkey
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import HTTPException

from app.errors import InvalidInput, TooSlow
from app.services.container import services

_MAX_NESTING = 32


class StrictParser(FlaskParser):
    """Webargs' Flask parser with our rules and our errors."""

    DEFAULT_VALIDATION_STATUS = 400  # for the API's description; `handle_error` has the last word
    DEFAULT_UNKNOWN_BY_LOCATION = {"json": ma.RAISE, "query": ma.RAISE, "query_string": ma.RAISE}  # noqa: RUF012  # webargs' own attribute

    def load_json(self, req: Request, schema: ma.Schema) -> Any:
        """The body as a JSON object; an absent body counts as `{}`."""
        raw = _body_of(req)
        if not raw:
            return {}
        if not req.is_json:
            raise InvalidInput("Send the body as JSON, with `Content-Type: application/json`.")
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise InvalidInput(f"The body is not valid JSON in UTF-8: {error.msg} ({where}).") from None
        if not isinstance(body, dict):
            raise InvalidInput("The body must be a JSON object.")
        if b"\\u0000" in raw or raw.count(b"{") + raw.count(b"[") > _MAX_NESTING:
            _refuse_unstorable(body)
        return body

    def load_querystring(self, req: Request, schema: ma.Schema) -> Any:
        if "%00" in req.query_string.decode("latin-1"):
            raise InvalidInput("The query string contains a NUL byte.")
        return super().load_querystring(req, schema)

    def handle_error(  # ours never returns
        self, error: ma.ValidationError, req: Request, schema: ma.Schema, **_: Any
    ) -> NoReturn:
        messages = error.messages if isinstance(error.messages, dict) else {"": error.messages}
        # webargs keys the messages by location first; a person wants the field.
        raise InvalidInput(fields=dict(_flatten(messages.get("json") or messages.get("query") or messages)))


def _body_of(req: Request) -> bytes:
    try:
        # A body that never comes would keep its connection, of which a worker has so many, for ever. A body that was
        # read already costs nothing.
        with _in_time(services().settings.server.body_seconds, TooSlow()):
            return req.get_data(cache=True)
    except (HTTPException, TooSlow):  # it is too large, or the client has gone, or it is late
        raise
    except Exception:  # each web server has an error of its own for what is no body
        raise InvalidInput("The body cannot be read: its chunks are malformed, or it ends too early.") from None


@contextmanager
def _in_time(seconds: float, error: Exception) -> Iterator[None]:
    """Raise `error` in the block after so many seconds of waiting: under gevent; elsewhere there is no web server."""
    if not monkey.is_module_patched("socket"):
        yield
        return
    with gevent.Timeout(seconds, error):
        yield


def _flatten(messages: Any, path: str = "") -> Iterator[tuple[str, Sequence[str]]]:
    """`{"a": {"b": [...]}}` as `("a.b", [...])`."""
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            # marshmallow says "_schema" where a whole value is wrong, not one of its fields.
            yield from _flatten(inner, path if key == "_schema" else f"{path}.{key}" if path else str(key))
    else:
        yield path, [str(message) for message in messages]


def _refuse_unstorable(value: Any, path: str = "", depth: int = 0) -> None:
    if depth > _MAX_NESTING:
        raise InvalidInput(fields={path: [f"Nested deeper than {_MAX_NESTING} levels."]})
    if isinstance(value, str):
        if "\x00" in value:
            raise InvalidInput(fields={path: ["Contains a NUL byte."]})
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unstorable(key, path, depth)
            _refuse_unstorable(inner, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_unstorable(inner, f"{path}.{index}", depth + 1)
