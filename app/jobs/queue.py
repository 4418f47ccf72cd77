"""The messages that a process sends, in the background or with a confirmation."""

import atexit
import logging
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.errors import Unavailable
from app.jobs.celery_app import make_celery, send_message
from app.jobs.messages import Message
from app.logs import redact

if TYPE_CHECKING:  # commands start faster without it
    from celery import Celery

MAX_PENDING = 1000  # unsent messages of one process
DRAIN_SECONDS = 2.0  # for sending pending messages when a process exits

_log = logging.getLogger("parley.jobs")


class JobQueue:
    """The messages that a process sends to the broker. `counts` holds how many were `sent` and `dropped`.

    Without a broker all messages are dropped. Thread-safe, also under gevent; may be created before a fork.
    """

    def __init__(self, broker: Callable[[], str] | None) -> None:
        self.broker = broker  # returns the broker's URL; called at the first use, in the sender's thread
        self.counts: Counter[str] = Counter()
        self._pending: queue.Queue[Message] = queue.Queue(MAX_PENDING)
        self._start_lock = threading.Lock()
        self._sender_pid: int | None = None
        self._celery: Celery | None = None

    def put(self, message: Message) -> None:
        """Send `message` in the background. Never blocks and never raises."""
        if self.broker is None:
            self._drop(message, "no broker is configured")
            return
        try:
            self._pending.put_nowait(message)
        except queue.Full:
            self._drop(message, f"{MAX_PENDING} messages are pending")
            return
        if self._sender_pid != os.getpid():
            self._start()

    def send(self, message: Message) -> None:
        """Send `message` now, on its own connection. Raises `Unavailable` if the broker does not accept it."""
        if self.broker is None:
            raise Unavailable("No broker is configured, so no job can be enqueued.")
        try:
            with make_celery(self.broker(), set_as_current=False) as celery_app:
                send_message(celery_app, message)
        except Exception as error:  # each broker's client has its own
            _log.warning("job %s was not sent: %s", message.name, redact(f"{type(error).__name__}: {error}"))
            raise Unavailable("The broker is unavailable, so the job was not enqueued; try again shortly.") from None
        self.counts["sent"] += 1

    def drain(self, seconds: float = DRAIN_SECONDS) -> bool:
        """Wait until all pending messages are sent or dropped, at most `seconds`. Return whether they are."""
        deadline = time.monotonic() + seconds
        while self._pending.unfinished_tasks and self._sender_pid == os.getpid() and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self._pending.unfinished_tasks

    def _start(self) -> None:
        with self._start_lock:
            if self._sender_pid != os.getpid():
                self._sender_pid = os.getpid()
                threading.Thread(target=self._send_all, name="jobs", daemon=True).start()
                atexit.register(self.drain)

    def _send_all(self) -> None:
        while True:
            message = self._pending.get()
            try:
                self._send(message)
                self.counts["sent"] += 1
            except Exception as error:  # each broker's client has its own
                self._drop(message, f"{type(error).__name__}: {error}")
            finally:
                self._pending.task_done()

    def _send(self, message: Message) -> None:
        if self._celery is None and self.broker is not None:
            self._celery = make_celery(self.broker(), set_as_current=False)
        assert self._celery is not None  # noqa: S101  # nothing is put without a broker
        send_message(self._celery, message)

    def _drop(self, message: Message, reason: str) -> None:
        self.counts["dropped"] += 1
        _log.log(
            logging.WARNING if self.broker else logging.DEBUG,
            "job %s was not sent; a periodic job will do its work: %s",
            message.name,
            redact(reason),
            extra={"job": message.name, "request_id": message.request_id},
        )
