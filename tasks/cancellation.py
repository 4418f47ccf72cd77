"""The command with which an operator ends a running job in its worker.

The main process of the worker receives it. It signals the process that runs the job as a soft time limit does, so that
the job can clean up, and kills it if it is still running after some seconds.
"""

import logging
import os
import signal
from typing import Any

from celery.worker import state as worker_state
from celery.worker.control import Panel

from app.jobs import CANCEL_COMMAND

_log = logging.getLogger("parley.jobs")


def install() -> None:
    """Register the command in this process. Call it before the worker starts."""
    Panel.register(name=CANCEL_COMMAND, type="control", args=[("message_id", str), ("grace", float)])(_cancel)


def _cancel(state: Any, message_id: str, grace: float) -> dict[str, int | None]:
    """End the run of the message; return the process that runs it, or None if this worker does not run it."""
    request = worker_state.requests.get(message_id)
    if request is None or not _is_running(request):
        return {"pid": None}
    pid = int(request.worker_pid)
    _send(request, pid, signal.SIGUSR1)
    state.consumer.timer.call_after(grace, _send, (request, pid, signal.SIGKILL))
    return {"pid": pid}


def _is_running(request: Any) -> bool:
    """Return whether a process of the pool runs it. Its parent gives a process a job only after the end of the last."""
    return request in worker_state.active_requests and request.worker_pid not in (None, os.getpid())


def _send(request: Any, pid: int, number: signal.Signals) -> None:
    if not _is_running(request) or request.worker_pid != pid:
        return
    _log.warning("job %s is cancelled: %s to process %d", request.name, number.name, pid, extra={"job": request.name})
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
