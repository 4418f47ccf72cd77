"""Requests to index conversations: batched, each conversation once, without blocking."""

from uuid import uuid4

from app.jobs import JobQueue
from app.services.search_requests import IndexRequests
from tests.waiting import wait_until


def requests(batch_seconds: float) -> tuple[JobQueue, IndexRequests]:
    """Return requests on a queue without a broker, which counts dropped messages."""
    jobs = JobQueue(None)
    return jobs, IndexRequests(jobs, batch_seconds)


def test_conversation_is_requested_once_per_batch() -> None:
    jobs, index_requests = requests(batch_seconds=3600)
    user, conversation = uuid4(), uuid4()
    for _ in range(100):
        index_requests.add(user, conversation)
    assert jobs.counts["dropped"] == 0
    index_requests.flush()
    assert jobs.counts["dropped"] == 1
    index_requests.flush()
    assert jobs.counts["dropped"] == 1


def test_requests_share_messages() -> None:
    jobs, index_requests = requests(batch_seconds=3600)
    for _ in range(120):
        index_requests.add(uuid4(), uuid4())
    index_requests.flush()
    assert jobs.counts["dropped"] == 3


def test_batch_is_sent_after_its_time() -> None:
    jobs, index_requests = requests(batch_seconds=0.01)
    for round_ in (1, 2):
        index_requests.add(uuid4(), uuid4())
        wait_until(lambda count=round_: jobs.counts["dropped"] >= count)
