"""The queue of background jobs. Jobs are enqueued by name, after the commit of the rows they work on.

    enqueue_after_commit(session, "search.write", conversation_id=...)    inside a transaction
    enqueue("search.write", conversation_id=...)                          after a statement in AUTOCOMMIT

Neither waits for the broker nor fails with it: a thread sends the messages, and one that it cannot send within about a
second is dropped, logged and counted. So each necessary job also has a periodic job that finds its work.
"""

from app.jobs.broker import CANCEL_COMMAND, Broker, BrokerReport, BrokerState
from app.jobs.celery_app import import_celery, make_celery
from app.jobs.enqueue import enqueue, enqueue_after_commit, enqueue_confirmed, init_app, job_broker, job_queue
from app.jobs.messages import INTERACTIVE, MAINTENANCE, QUEUES, Message
from app.jobs.queue import MAX_PENDING, JobQueue

__all__ = [
    "CANCEL_COMMAND",
    "INTERACTIVE",
    "MAINTENANCE",
    "MAX_PENDING",
    "QUEUES",
    "Broker",
    "BrokerReport",
    "BrokerState",
    "JobQueue",
    "Message",
    "enqueue",
    "enqueue_after_commit",
    "enqueue_confirmed",
    "import_celery",
    "init_app",
    "job_broker",
    "job_queue",
    "make_celery",
]
