"""Requests to index changed conversations, batched and sent to the job queue shortly after the change.

A message to the broker takes half a millisecond of CPU, which is a large part of a turn. So the changes of two seconds
share a message, and a conversation that changes often is written once. The sweep finds changes whose request was lost.
"""

import atexit
import threading
from uuid import UUID

from app.jobs import JobQueue, Message, enqueue, enqueue_after_commit
from app.services.transactions import current_unit_of_work

BATCH_SECONDS = 2.0  # from the first change to its message
MAX_BATCH = 50  # conversations in a message
JOB = "search.index_conversations"


def request_index(user_id: UUID, conversation_id: UUID) -> None:
    """Request the indexing of one conversation once the change is committed. Never waits and never raises."""
    conversations, session = [[str(user_id), str(conversation_id)]], current_unit_of_work()
    if session is not None:
        enqueue_after_commit(session, JOB, conversations=conversations)
    else:
        enqueue(JOB, conversations=conversations)


class IndexRequests:
    """The requests of one process. Thread-safe, under gevent too."""

    def __init__(self, jobs: JobQueue, batch_seconds: float = BATCH_SECONDS) -> None:
        self._jobs = jobs
        self._batch_seconds = batch_seconds
        self._changed: dict[tuple[UUID, UUID], None] = {}
        self._lock = threading.Lock()
        self._has_exit_handler = False

    def add(self, user_id: UUID, conversation_id: UUID) -> None:
        """Add a conversation whose change is committed. Does not wait and does not raise."""
        with self._lock:
            first = not self._changed
            self._changed[user_id, conversation_id] = None
        if first:
            self._start()

    def flush(self) -> None:
        """Send the pending requests now."""
        with self._lock:
            changed, self._changed = [[str(user), str(conversation)] for user, conversation in self._changed], {}
        for start in range(0, len(changed), MAX_BATCH):
            self._jobs.put(Message(JOB, {"conversations": changed[start : start + MAX_BATCH]}))

    def _start(self) -> None:
        if not self._has_exit_handler:
            self._has_exit_handler = True
            atexit.register(self._flush_at_exit)
        timer = threading.Timer(self._batch_seconds, self.flush)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # the system allows no more threads
            self.flush()

    def _flush_at_exit(self) -> None:
        if self._changed:
            self.flush()
            self._jobs.drain()
