"""Requests for search documents: collected for a while, each conversation once, and never in anybody's way."""

import time
from uuid import uuid4

from app.jobs import JobQueue
from app.services.search_requests import IndexRequests


def requests(pause: float) -> tuple[JobQueue, IndexRequests]:
    """On a queue without a broker, which counts the messages that it drops."""
    jobs = JobQueue(None)
    return jobs, IndexRequests(jobs, pause)


def test_what_changes_often_is_asked_for_once() -> None:
    jobs, asked = requests(pause=3600)
    user, conversation = uuid4(), uuid4()
    for _ in range(100):
        asked.add(user, conversation)
    assert jobs.counts["dropped"] == 0
    asked.flush()
    assert jobs.counts["dropped"] == 1
    asked.flush()
    assert jobs.counts["dropped"] == 1


def test_many_go_in_few_messages() -> None:
    jobs, asked = requests(pause=3600)
    for _ in range(120):
        asked.add(uuid4(), uuid4())
    asked.flush()
    assert jobs.counts["dropped"] == 3


def test_they_go_by_themselves_after_a_pause() -> None:
    jobs, asked = requests(pause=0.01)
    for round_ in (1, 2):
        asked.add(uuid4(), uuid4())
        deadline = time.monotonic() + 30
        while jobs.counts["dropped"] < round_:
            assert time.monotonic() < deadline
            time.sleep(0.01)  # the queue has no event for a message that it drops
