"""Every statement says who it is: timed under its name, and sent with the id of the request that wants it.

`WITH /* turns.begin */ ...` is sent as `WITH /* turns.begin rid=4f1c... */ ...`, so that PostgreSQL's log of slow
statements leads back to a request. pg_stat_statements takes no notice of comments; it shows the first text it saw.
"""

import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gevent
from sqlalchemy import Engine, ExceptionContext, event

from app.logs import request_id
from app.metrics.db import UNNAMED, QueryOutcome, record_query

_NAME = re.compile(r"/\* ([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*) \*/")
_NAMED_WITHIN = 60  # characters: the comment stands behind the first word
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TEXTS = 2_000  # those of our own code and of the ORM; lists of parameters make ever new ones
# SQLSTATEs of a statement that took too long, by itself or waiting for a lock (PostgreSQL manual, appendix A).
_TIMEOUTS = ("57014", "55P03")
_UNDER_WAY = "parley_query"  # in an execution context's own dictionary: name and start


@dataclass(frozen=True, slots=True)
class _Text:
    """A statement, open at the place where the request's id goes."""

    name: str
    before: str
    after: str


_texts: dict[str, _Text] = {}


def trace(engine: Engine) -> None:
    """Time every statement of `engine`, and send it with the request's id."""
    event.listen(engine, "before_cursor_execute", _begin, retval=True)
    event.listen(engine, "after_cursor_execute", _end)
    event.listen(engine, "handle_error", _fail)


def _begin(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> tuple[str, Any]:
    text = _texts.get(statement) or _read(statement)
    mark = _mark(request_id.get())
    context.__dict__[_UNDER_WAY] = (text.name, time.perf_counter())
    return (f"{text.before}{mark}{text.after}" if mark else statement), parameters


def _end(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
    name, begun = context.__dict__.pop(_UNDER_WAY)
    record_query(name, "ok", time.perf_counter() - begun)


def _fail(error: ExceptionContext) -> None:
    query = error.execution_context.__dict__.pop(_UNDER_WAY, None) if error.execution_context else None
    if query is not None:  # else it failed before it was sent, or after it was answered
        name, begun = query
        record_query(name, _outcome(error.original_exception), time.perf_counter() - begun)


def _outcome(error: BaseException) -> QueryOutcome:
    late = getattr(error, "pgcode", None) in _TIMEOUTS or isinstance(error, gevent.Timeout)
    return "timeout" if late else "error"


def _read(statement: str) -> _Text:
    found = _NAME.search(statement, 0, _NAMED_WITHIN)
    if found:
        end = found.end() - len(" */")
        text = _Text(found[1], statement[:end], statement[end:])
    else:
        text = _Text(UNNAMED, f"{statement} /*", " */")
    if len(_texts) < _TEXTS:
        _texts[statement] = text
    return text


@lru_cache(maxsize=1024)
def _mark(request: str) -> str:
    """The id as it goes into a comment. One that is not plain could end the comment: it does not go at all."""
    return f" rid={request}" if _PLAIN.fullmatch(request) else ""
