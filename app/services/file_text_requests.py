"""Requests to extract the texts of files that were just uploaded, one message to the job queue for many uploads.

Each message may wait for a run that is in progress, so a process sends few of them. A run extracts all texts that are
pending, and beat starts one each minute, so that no text waits for its own message.
"""

import threading
import time

from app.jobs import JobQueue, Message

JOB = "files.extract"
DELAY_SECONDS = 1.0  # from an upload to its message
PAUSE_SECONDS = 15.0  # between two messages of a process


class ExtractionRequests:
    """The requests of one process. Thread-safe, under gevent too."""

    def __init__(self, jobs: JobQueue, delay: float = DELAY_SECONDS, pause: float = PAUSE_SECONDS) -> None:
        self._jobs, self._delay, self._pause = jobs, delay, pause
        self._lock = threading.Lock()
        self._waiting = False
        self._next = 0.0  # by the monotonic clock

    def add(self) -> None:
        """Request an extraction, for a row that is committed. Does not wait and does not raise."""
        now = time.monotonic()
        with self._lock:
            if self._waiting:
                return
            self._waiting = True
            seconds = max(self._delay, self._next - now)
            self._next = now + seconds + self._pause
        timer = threading.Timer(seconds, self._send)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # the system allows no more threads
            self._send()

    def _send(self) -> None:
        with self._lock:
            self._waiting = False
        self._jobs.put(Message(JOB, {}))
