"""Background work is asked for by name, and only once what it is about has been committed.

    enqueue_after_commit(session, "search.write", conversation_id=...)    with a transaction
    enqueue("search.write", conversation_id=...)                          after a statement that commits by itself

Neither waits for the broker, nor fails because of it: messages leave through a thread of their own, and one that cannot
be sent within about a second is dropped, logged and counted. So what must happen is also found by a periodic job.
"""

import atexit
import logging
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from celery import Celery
from flask import Flask, current_app
from pydantic import SecretStr
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from app.errors import Unavailable
from app.logs import redact, request_id

INTERACTIVE, MAINTENANCE = "interactive", "maintenance"  # what requests ask for; what the clock asks for
SEND_SECONDS = 1.0  # for each of connecting to the broker and talking to it
MOST_WAITING = 1000  # messages of one process that have not been sent yet
LAST_SECONDS = 2.0  # for which a process that ends goes on sending
_PENDING = "parley.jobs"  # in Session.info

_log = logging.getLogger("parley.jobs")


@dataclass(frozen=True, slots=True)
class Message:
    """A job to be run: its wire name, its arguments (ids and other plain values), and for which request."""

    name: str
    arguments: dict[str, Any]
    queue: str = INTERACTIVE
    request_id: str = field(default_factory=request_id.get)
    id: UUID = field(default_factory=uuid4)


class JobQueue:
    """What a process has to send. `counts` says how many messages were sent, and how many dropped.

    Without a broker nothing is sent. Thread-safe, under gevent too; safe to be made before a fork.
    """

    def __init__(self, broker: Callable[[], str] | None) -> None:
        self.broker = broker  # its URL; asked for when first needed, in the sender's thread
        self.counts: Counter[str] = Counter()
        self._waiting: queue.Queue[Message] = queue.Queue(MOST_WAITING)
        self._starting = threading.Lock()
        self._sender: int | None = None  # the process whose thread sends
        self._celery: Celery | None = None

    def put(self, message: Message) -> None:
        """Send `message` soon. Never blocks and never raises."""
        if self.broker is None:
            self._drop(message, "no broker is configured")
            return
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._drop(message, f"{MOST_WAITING} others wait to be sent")
            return
        if self._sender != os.getpid():
            self._start()

    def send(self, message: Message) -> None:
        """Send `message` now, on a connection of its own. Raises `Unavailable` where the broker does not take it."""
        if self.broker is None:
            raise Unavailable("No broker is configured, so no job can be asked for.")
        try:
            with make_celery(self.broker(), set_as_current=False) as celery_app:
                _send(celery_app, message)
        except Exception as error:  # of whichever broker's client
            _log.warning("job %s was not sent: %s", message.name, redact(f"{type(error).__name__}: {error}"))
            raise Unavailable("The broker does not answer, so the job was not asked for; try again shortly.") from None
        self.counts["sent"] += 1

    def answers(self) -> bool | None:
        """Whether the broker accepts a connection within about a second; None without a broker. Never raises."""
        if self.broker is None:
            return None
        try:
            with make_celery(self.broker(), set_as_current=False).connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=SEND_SECONDS)
        except Exception as error:  # of whichever broker's client
            _log.warning("the broker does not answer: %s", redact(f"{type(error).__name__}: {error}"))
            return False
        return True

    def lengths(self) -> dict[str, int]:
        """How many messages wait in each queue of the broker, which is asked. Raises what its client raises."""
        if self.broker is None:
            return {}
        with make_celery(self.broker(), set_as_current=False).connection_for_read() as connection:
            return {name: _length(connection, name) for name in (INTERACTIVE, MAINTENANCE)}

    def drain(self, seconds: float = LAST_SECONDS) -> bool:
        """Wait until everything has been sent or dropped, at most so long; whether it has."""
        deadline = time.monotonic() + seconds
        while self._waiting.unfinished_tasks and self._sender == os.getpid() and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self._waiting.unfinished_tasks

    def _start(self) -> None:
        with self._starting:
            if self._sender != os.getpid():
                self._sender = os.getpid()
                threading.Thread(target=self._send_all, name="jobs", daemon=True).start()
                atexit.register(self.drain)

    def _send_all(self) -> None:
        while True:
            message = self._waiting.get()
            try:
                self._send(message)
                self.counts["sent"] += 1
            except Exception as error:  # of whichever broker's client
                self._drop(message, f"{type(error).__name__}: {error}")
            finally:
                self._waiting.task_done()

    def _send(self, message: Message) -> None:
        if self._celery is None and self.broker is not None:
            self._celery = make_celery(self.broker(), set_as_current=False)
        assert self._celery is not None  # noqa: S101  # nothing is put without a broker
        _send(self._celery, message)

    def _drop(self, message: Message, why: str) -> None:
        self.counts["dropped"] += 1
        _log.log(
            logging.WARNING if self.broker else logging.DEBUG,
            "job %s was not sent; its periodic job will do it: %s",
            message.name,
            redact(why),
            extra={"job": message.name, "request_id": message.request_id},
        )


def _send(celery_app: Celery, message: Message) -> None:
    celery_app.send_task(
        message.name,
        kwargs=message.arguments,
        task_id=str(message.id),
        queue=message.queue,
        headers={"request_id": message.request_id, "queued_at": datetime.now(UTC).isoformat()},
        retry=False,
    )


def _length(connection: Any, name: str) -> int:
    try:
        with connection.channel() as channel:
            return int(channel.queue_declare(queue=name, passive=True).message_count)
    except connection.channel_errors:  # nothing was ever sent, or in Redis: nothing waits
        return 0


def make_celery(broker_url: str, *, set_as_current: bool = True) -> Celery:
    """What senders and workers agree on: JSON, two queues, UTC, no results, no waiting for a broker that is away."""
    celery_app = Celery("parley", broker=broker_url, set_as_current=set_as_current, fixups=[])
    redis = broker_url.startswith("redis")
    celery_app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_queues={name: {} for name in (INTERACTIVE, MAINTENANCE)},
        task_default_queue=MAINTENANCE,
        enable_utc=True,
        timezone="UTC",
        broker_connection_timeout=SEND_SECONDS,
        broker_transport_options={
            **({"socket_connect_timeout": SEND_SECONDS, "socket_timeout": SEND_SECONDS} if redis else {}),
            "max_retries": 1,  # without these, the first message to a broker that is away waits for ever
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
        },
    )
    return celery_app


def init_app(flask_app: Flask, broker_url: SecretStr | None) -> None:
    """Give the application its queue; without a URL, a composition root may set the queue's `broker` later."""
    flask_app.extensions["jobs"] = JobQueue(broker_url.get_secret_value if broker_url else None)


def job_queue() -> JobQueue:
    """That of the current application."""
    found: JobQueue = current_app.extensions["jobs"]
    return found


def enqueue(name: str, /, **arguments: Any) -> None:
    """Have the job with this wire name run soon. For code whose statements have committed already."""
    job_queue().put(Message(name, arguments))


def ask_for(name: str, /, **arguments: Any) -> UUID:
    """Have a job of upkeep with this wire name run soon; its message's id, by which the history knows the run.

    Returns once the broker has it, within about two seconds. Raises `Unavailable`.
    """
    message = Message(name, arguments, MAINTENANCE)
    job_queue().send(message)
    return message.id


def enqueue_after_commit(session: Session, name: str, **arguments: Any) -> None:
    """Have the job with this wire name run once the session's transaction has committed, and not if it does not.

    Releasing a savepoint is no commit; rolling back to one forgets what was asked for since. A session in AUTOCOMMIT
    never commits: use `enqueue` there.
    """
    if _PENDING not in session.info:
        session.info[_PENDING] = []
        event.listen(session, "after_commit", _send_pending)
        event.listen(session, "after_soft_rollback", _forget_rolled_back)
        event.listen(session, "after_transaction_end", _forget_at_the_end)
    within = session.get_nested_transaction() or session.get_transaction()
    session.info[_PENDING].append((within, job_queue(), Message(name, arguments)))


def _send_pending(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was released
    for _, jobs, message in session.info[_PENDING]:
        jobs.put(message)
    session.info[_PENDING].clear()


def _forget_rolled_back(session: Session, rolled_back: SessionTransaction) -> None:
    session.info[_PENDING][:] = [
        pending for pending in session.info[_PENDING] if not _is_within(pending[0], rolled_back)
    ]


def _forget_at_the_end(session: Session, ended: SessionTransaction) -> None:
    """However it ended: the next transaction of the same session is about something else."""
    if ended.parent is None:
        session.info[_PENDING].clear()


def _is_within(transaction: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while transaction is not None and transaction is not outer:
        transaction = transaction.parent
    return transaction is outer
