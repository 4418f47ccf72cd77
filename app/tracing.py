"""Tracing of SQL statements: each is timed under its name and sent with the id of its request.

`WITH /* turns.begin */ ...` is sent as `WITH /* turns.begin rid=4f1c... */ ...`, so that an entry in PostgreSQL's log
of slow statements identifies its request. pg_stat_statements ignores comments and shows the first text it saw.
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
_NAME_SEARCH_LENGTH = 60  # characters: the comment follows the first word
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_TEXTS = 2_000  # more than the code and the ORM have; expanding IN lists would add texts without end
# SQLSTATEs of a statement that took too long, itself or while it waited for a lock (PostgreSQL manual, appendix A).
_TIMEOUTS = ("57014", "55P03")
_STARTED = "parley_query"  # key in an execution context's __dict__: name and start time


@dataclass(frozen=True, slots=True)
class _Text:
    """A statement, split where the request id is inserted."""

    name: str
    before: str
    after: str


_texts: dict[str, _Text] = {}


def trace(engine: Engine) -> None:
    """Time each statement of `engine` and add the request id to it."""
    event.listen(engine, "before_cursor_execute", _begin, retval=True)
    event.listen(engine, "after_cursor_execute", _end)
    event.listen(engine, "handle_error", _fail)


def _begin(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> tuple[str, Any]:
    text = _texts.get(statement) or _split(statement)
    mark = _mark(request_id.get())
    context.__dict__[_STARTED] = (text.name, time.perf_counter())
    return (f"{text.before}{mark}{text.after}" if mark else statement), parameters


def _end(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
    name, started = context.__dict__.pop(_STARTED)
    record_query(name, "ok", time.perf_counter() - started)


def _fail(error: ExceptionContext) -> None:
    query = error.execution_context.__dict__.pop(_STARTED, None) if error.execution_context else None
    if query is not None:  # None: it failed before it was sent, or after its result had arrived
        name, started = query
        record_query(name, _outcome(error.original_exception), time.perf_counter() - started)


def _outcome(error: BaseException) -> QueryOutcome:
    timed_out = getattr(error, "pgcode", None) in _TIMEOUTS or isinstance(error, gevent.Timeout)
    return "timeout" if timed_out else "error"


def _split(statement: str) -> _Text:
    match = _NAME.search(statement, 0, _NAME_SEARCH_LENGTH)
    if match:
        end = match.end() - len(" */")
        text = _Text(match[1], statement[:end], statement[end:])
    else:
        text = _Text(UNNAMED, f"{statement} /*", " */")
    if len(_texts) < _MAX_TEXTS:
        _texts[statement] = text
    return text


@lru_cache(maxsize=1024)
def _mark(request: str) -> str:
    """Return the id as part of a comment, or nothing if it has characters that could end the comment."""
    return f" rid={request}" if _SAFE_ID.fullmatch(request) else ""
