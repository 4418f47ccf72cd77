"""Enqueueing of jobs by the current application, also after the commit of a transaction."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from flask import Flask, current_app
from pydantic import SecretStr
from sqlalchemy import event

from app.jobs.broker import Broker
from app.jobs.messages import MAINTENANCE, Message
from app.jobs.queue import JobQueue

if TYPE_CHECKING:  # commands start faster without it
    from sqlalchemy.orm import Session, SessionTransaction

_PENDING = "parley.jobs"  # in Session.info


def init_app(flask_app: Flask, broker_url: SecretStr | None) -> None:
    """Create the application's queue. Without a URL, the composition root can set the queue's `broker` later."""
    flask_app.extensions["jobs"] = JobQueue(broker_url.get_secret_value if broker_url else None)


def job_queue() -> JobQueue:
    """Return the queue of the current application."""
    jobs: JobQueue = current_app.extensions["jobs"]
    return jobs


def job_broker() -> Broker:
    """Return the broker of the current application."""
    return Broker(job_queue().broker)


def enqueue(name: str, /, **arguments: Any) -> None:
    """Enqueue the job with this wire name, for rows that are already committed."""
    job_queue().put(Message(name, arguments))


def enqueue_confirmed(name: str, /, **arguments: Any) -> UUID:
    """Enqueue a maintenance job and return the id of its message, which identifies the run in the job history.

    Returns once the broker has accepted it, within about two seconds. Raises `Unavailable`.
    """
    message = Message(name, arguments, MAINTENANCE)
    job_queue().send(message)
    return message.id


def enqueue_after_commit(session: "Session", name: str, **arguments: Any) -> None:
    """Enqueue the job with this wire name after the session's transaction has committed.

    It is not enqueued if the transaction, or the savepoint around the call, is rolled back. A session in AUTOCOMMIT
    never commits: use `enqueue` there.
    """
    if _PENDING not in session.info:
        session.info[_PENDING] = []
        event.listen(session, "after_commit", _send_pending)
        event.listen(session, "after_soft_rollback", _discard_rolled_back)
        event.listen(session, "after_transaction_end", _discard_all)
    transaction = session.get_nested_transaction() or session.get_transaction()
    session.info[_PENDING].append((transaction, job_queue(), Message(name, arguments)))


def _send_pending(session: "Session") -> None:
    if session.in_nested_transaction():
        return  # a savepoint was released
    for _, jobs, message in session.info[_PENDING]:
        jobs.put(message)
    session.info[_PENDING].clear()


def _discard_rolled_back(session: "Session", rolled_back: "SessionTransaction") -> None:
    session.info[_PENDING][:] = [
        pending for pending in session.info[_PENDING] if not _is_within(pending[0], rolled_back)
    ]


def _discard_all(session: "Session", ended: "SessionTransaction") -> None:
    """Discard what the ended transaction has left, so that the session's next transaction does not enqueue it."""
    if ended.parent is None:
        session.info[_PENDING].clear()


def _is_within(transaction: "SessionTransaction | None", outer: "SessionTransaction") -> bool:
    while transaction is not None and transaction is not outer:
        transaction = transaction.parent
    return transaction is outer
