"""Strict parsing of requests, before their schemas.

Refused with 400: bodies that are not one JSON object, unknown fields, invalid UTF-8, and NUL and lone surrogates in any
string, which PostgreSQL cannot store. orjson itself refuses surrogates, NaN and deep nesting.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NoReturn

import gevent
import marshmallow as ma
import orjson
from flask import Request
from gevent import monkey
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import HTTPException

from app.api.json_values import SLICE_SECONDS, levels
from app.api.schemas.base import MAX_PROBLEMS
from app.container import services
from app.errors import BodyTimeout, InvalidInput
from app.outbound.yielding import Yielder

_MAX_NESTING = 32
_MAX_NAME = 200  # characters of a name that is quoted
_UNREADABLE = "The body cannot be read: its chunks are malformed or too small, or it ends too early."
_MORE = f"The request is invalid; see `errors` for the first {MAX_PROBLEMS} problems."


class StrictParser(FlaskParser):
    """Webargs' parser for Flask with strict rules and Parley's errors."""

    DEFAULT_VALIDATION_STATUS = 400  # for the API's description only, see `handle_error`
    DEFAULT_UNKNOWN_BY_LOCATION = {"json": ma.RAISE, "query": ma.RAISE, "query_string": ma.RAISE}  # noqa: RUF012  # as in the base class

    def load_json(self, req: Request, schema: ma.Schema) -> Any:
        """Return the body as a JSON object; an empty body counts as `{}`."""
        raw = body_of(req)
        if not raw:
            return {}
        if not req.is_json:
            raise InvalidInput("Send the body as JSON, with `Content-Type: application/json`.")
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            position = f"line {error.lineno}, column {error.colno}"
            raise InvalidInput(f"The body is not valid JSON in UTF-8: {error.msg} ({position}).") from None
        if not isinstance(body, dict):
            raise InvalidInput("The body must be a JSON object.")
        refuse_unstorable_in(raw, body)
        return body

    def load_querystring(self, req: Request, schema: ma.Schema) -> Any:
        if "%00" in req.query_string.decode("latin-1"):
            raise InvalidInput("The query string contains a NUL byte.")
        return super().load_querystring(req, schema)

    def handle_error(self, error: ma.ValidationError, req: Request, schema: ma.Schema, **_: Any) -> NoReturn:
        messages = error.messages if isinstance(error.messages, dict) else {"": error.messages}
        # webargs nests the messages under the location; callers need the field.
        problems = _flatten(messages.get("json") or messages.get("query") or messages)
        reported = dict(islice(problems, MAX_PROBLEMS))
        raise InvalidInput(_MORE if next(problems, None) else None, fields=reported)


def refuse_unstorable_in(raw: bytes, body: Any) -> None:
    """Raise `InvalidInput` if `body`, parsed from `raw`, contains NUL or is nested too deeply."""
    may_be_deep = raw.count(b"{") + raw.count(b"[") > _MAX_NESTING
    if b"\\u0000" in raw or (may_be_deep and _depth(body) > _MAX_NESTING):
        _refuse_unstorable(body)


def body_of(req: Request) -> bytes:
    """Return the body. Raises `TooLarge` or `BodyTimeout`, and `InvalidInput` if it cannot be read."""
    with reading_body():
        return req.get_data(cache=True)


@contextmanager
def reading_body() -> Iterator[None]:
    """Read the body, or a piece of it, in the block, within BODY_TIMEOUT. Raises `InvalidInput` and `BodyTimeout`."""
    try:
        # Without a limit, a body that never arrives would occupy one of the worker's connections for ever.
        with _timeout(services().settings.server.body_seconds, BodyTimeout()):
            yield
    except (HTTPException, BodyTimeout):  # too large, the client has disconnected, or too late
        raise
    except Exception:  # each web server has its own error for a malformed body
        raise InvalidInput(_UNREADABLE) from None


@contextmanager
def _timeout(seconds: float, error: Exception) -> Iterator[None]:
    """Raise `error` in the block after `seconds`, under gevent. Other processes read no bodies from a network."""
    if not monkey.is_module_patched("socket"):
        yield
        return
    with gevent.Timeout(seconds, error):
        yield


def _flatten(messages: Any, path: str = "") -> Iterator[tuple[str, Sequence[str]]]:
    """Yield nested messages by path: `{"a": {"b": [...]}}` as `("a.b", [...])`."""
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            # marshmallow's key "_schema" is for errors of the whole value.
            yield from _flatten(inner, path if key == "_schema" else f"{path}.{_name(key)}" if path else _name(key))
    else:
        yield path, [str(message) for message in messages]


def _name(key: object) -> str:
    name = str(key)
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 3]}..."


def _depth(body: Any) -> int:
    """Return the number of levels of objects and arrays, counted up to one more than allowed."""
    return sum(1 for _ in islice(levels(body), _MAX_NESTING + 1))


def _refuse_unstorable(value: Any, path: str = "", depth: int = 0, yielder: Yielder | None = None) -> None:
    """Raise `InvalidInput` for the first value that cannot be stored, with its path."""
    yielder = yielder or Yielder(SLICE_SECONDS)
    yielder.step()
    if depth > _MAX_NESTING:
        raise InvalidInput(fields={path: [f"Nested deeper than {_MAX_NESTING} levels."]})
    if isinstance(value, str):
        if "\x00" in value:
            raise InvalidInput(fields={path: ["Contains a NUL byte."]})
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unstorable(key, path, depth, yielder)
            _refuse_unstorable(inner, f"{path}.{_name(key)}" if path else _name(key), depth + 1, yielder)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_unstorable(inner, f"{path}.{index}", depth + 1, yielder)
