"""Asking for the documents of conversations that have changed, a little later and for many at once.

A message to the broker costs a process half a millisecond, which is half of what a turn costs it. So what changes
within some seconds goes in one message, and a conversation that changes often is written once. What is lost, with the
process or on the way, is found by the sweep.
"""

import atexit
import threading
from uuid import UUID

from app.jobs import JobQueue, Message, enqueue, enqueue_after_commit
from app.services.transactions import whole

PAUSE = 2.0  # seconds from the first change to its message
MOST_AT_ONCE = 50  # conversations in a message
JOB = "search.index_conversations"


def request_index(user_id: UUID, conversation_id: UUID) -> None:
    """Ask for one document as soon as the change is committed, which it is unless `as_one` is around it. Never waits
    and never raises."""
    conversations, session = [[str(user_id), str(conversation_id)]], whole()
    if session is not None:
        enqueue_after_commit(session, JOB, conversations=conversations)
    else:
        enqueue(JOB, conversations=conversations)


class IndexRequests:
    """Those of one process. Thread-safe, under gevent too."""

    def __init__(self, jobs: JobQueue, pause: float = PAUSE) -> None:
        self._jobs = jobs
        self._pause = pause
        self._changed: dict[tuple[UUID, UUID], None] = {}
        self._lock = threading.Lock()
        self._ends = False  # whether the process's end has been arranged for

    def add(self, user_id: UUID, conversation_id: UUID) -> None:
        """The conversation has changed, and that is committed. Never waits and never raises."""
        with self._lock:
            first = not self._changed
            self._changed[user_id, conversation_id] = None
        if first:
            self._start()

    def flush(self) -> None:
        """Ask now."""
        with self._lock:
            changed, self._changed = [[str(user), str(conversation)] for user, conversation in self._changed], {}
        for start in range(0, len(changed), MOST_AT_ONCE):
            self._jobs.put(Message(JOB, {"conversations": changed[start : start + MOST_AT_ONCE]}))

    def _start(self) -> None:
        if not self._ends:
            self._ends = True
            atexit.register(self._end)
        timer = threading.Timer(self._pause, self.flush)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # the machine has no more threads
            self.flush()

    def _end(self) -> None:
        if self._changed:
            self.flush()
            self._jobs.drain()
