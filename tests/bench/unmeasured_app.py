"""The production application without metrics, to measure what they cost."""

import inspect
from typing import Any

from sqlalchemy import event

from app import tracing
from app.api import request_metrics
from app.metrics import exposition
from app.pool import MeasuredPool

__all__ = ["flask_app"]


def _nothing(*_: Any, **__: Any) -> None:
    """Record nothing."""


# Before the application imports them by name.
for module in exposition.DECLARING:
    for name, _ in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("record_"):
            setattr(module, name, _nothing)
# What only measures; statements keep their comment with the request's id.
request_metrics.init_app = _nothing
tracing.trace = lambda engine: event.listen(engine, "before_cursor_execute", tracing._begin, retval=True)
MeasuredPool._record_state = _nothing
del MeasuredPool.connect, MeasuredPool._do_return_conn

from tests.bench.production_app import flask_app  # noqa: E402
