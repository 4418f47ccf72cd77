"""The calls of one round: run at the same time, in bounded time, until the turn is stopped.

Each call has a thread (a greenlet under gevent), at most TOOL_PARALLEL at once. Their turn waits; it holds no
connection, lock or transaction. A tool that ignores its deadline or its cancellation is abandoned: its call has a
result that says so, and what it returns later is dropped.
"""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Sequence

from app.outbound.cancellation import CancelToken
from app.turns.answer import CallResult
from app.turns.tool_calls import ToolCall

GRACE = 2.0  # seconds for a tool to return after its deadline or its cancellation

NOT_MADE = "The call was not made, because the turn was stopped or its time was used up."
UNKNOWN = "The call has no result: it was stopped or took too long. Whether it had an effect is unknown."

_log = logging.getLogger("parley.tools")

RunCall = Callable[[ToolCall, CancelToken], CallResult]


class CallRunner:
    """The calls of one round. `run_call` makes one call; `on_result` is called with each result.

    `on_result` is called one at a time, in the order in which the calls end. It may replace the result.
    """

    def __init__(
        self, calls: Sequence[ToolCall], run_call: RunCall, on_result: Callable[[CallResult], CallResult]
    ) -> None:
        self._calls, self._run_call, self._on_result = calls, run_call, on_result
        self._tokens = [CancelToken() for _ in calls]
        self._results: dict[int, CallResult] = {}
        self._begun = 0
        self._closed = False
        self._lock = threading.Lock()
        self._ended = threading.Event()  # all calls
        self._ended_or_stopped = threading.Event()

    def run(self, *, parallel: int, seconds: float, stop: CancelToken) -> list[CallResult]:
        """Make the calls, and return their results in the order of the calls after at most `seconds` and GRACE.

        `stop` cancels all of them.
        """
        for _ in range(min(parallel, len(self._calls))):
            self._start_thread()
        stop.attach(self._ended_or_stopped.set)
        try:
            self._ended_or_stopped.wait(seconds)
            if not self._ended.is_set():
                for token in self._tokens:
                    token.cancel()
                self._ended.wait(GRACE if self._begun else 0)
        finally:
            stop.detach()
        return self._close()

    def _start_thread(self) -> None:
        context = contextvars.copy_context()  # the logs of the thread show the request's id
        try:
            threading.Thread(target=context.run, args=(self._work,), name="tool", daemon=True).start()
        except RuntimeError:  # the system allows no more threads
            if not self._begun:
                self._work()

    def _work(self) -> None:
        """Make one call after the other until none is left."""
        while True:
            with self._lock:
                index = self._begun
                if self._closed or index == len(self._calls) or self._tokens[index].cancelled:
                    return
                self._begun += 1
            call = self._calls[index]
            try:
                result = self._run_call(call, self._tokens[index])
            except Exception:
                _log.exception("a call of a tool failed", extra={"tool": call.name})
                result = CallResult(call.id, call.name, UNKNOWN, is_error=True)
            with self._lock:
                if self._closed:
                    return
                self._results[index] = self._on_result(result)
                if len(self._results) == len(self._calls):
                    self._ended.set()
                    self._ended_or_stopped.set()

    def _close(self) -> list[CallResult]:
        with self._lock:
            self._closed = True
            for index, call in enumerate(self._calls):
                if index not in self._results:
                    content = UNKNOWN if index < self._begun else NOT_MADE
                    self._results[index] = self._on_result(CallResult(call.id, call.name, content, is_error=True))
            return [self._results[index] for index in range(len(self._calls))]


def seconds_for(calls: int, *, parallel: int, call_timeout: float, until: float) -> float:
    """Return how long a round with that many calls may take: each its timeout, all of them until `until`."""
    waves = -(-calls // parallel)
    return max(0.0, min(waves * call_timeout, until - time.monotonic()))
