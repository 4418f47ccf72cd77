"""Limits over several workers, without Redis, and after a worker is killed."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import urllib3
from flask import Flask
from sqlalchemy import Engine, text

from app.config import Settings
from app.services.quotas import quota_of, set_quota
from ops import embedded
from tests.database import run_folder
from tests.factories import LoggedInUser
from tests.faults.live_server import LiveServer
from tests.faults.proxy import Proxy
from tests.jobs.conftest import through
from tests.waiting import wait_until

pytestmark = pytest.mark.process

LISTED = "/api/conversations"


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with embedded.lease_redis(run_folder(), durable=False) as lease:
        yield lease.url


@pytest.fixture
def make_server(settings: Settings, flask_app: Flask, tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    """Yield a function that starts a server with two workers and a provider; keyword arguments are its settings."""
    made: list[LiveServer] = []

    def make(script: str, **variables: str) -> LiveServer:
        made.append(LiveServer(tmp_path, settings.database.url or "", LOG_LEVEL="INFO", **variables))
        made[-1].start_upstream(script)
        made[-1].start_web()
        return made[-1]

    yield make
    for server in made:
        server.close()


def call(server: LiveServer, account: LoggedInUser, method: str = "GET", path: str = LISTED, **options: Any) -> Any:
    """Send a request on a new connection, so that all workers get some."""
    headers = {**account.headers, "Connection": "close"}
    return server.http.request(method, server.url + path, headers=headers, timeout=60, **options)


def concurrently(calls: int, call_number: Callable[[int], Any]) -> list[Any]:
    barrier = threading.Barrier(calls)

    def wait_and_call(number: int) -> Any:
        barrier.wait()
        return call_number(number)

    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(wait_and_call, range(calls)))


def test_workers_count_locally_without_redis(
    make_server: Callable[..., LiveServer], redis_url: str, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    proxy = Proxy(("127.0.0.1", int(redis_url.rpartition(":")[2].partition("/")[0])))
    try:
        server = make_server("words(2)", CELERY_BROKER_URL=through(proxy, redis_url), RATE_LIMIT_USER="30")
        shared = concurrently(50, lambda _: call(server, user).status)
        assert Counter(shared) == {200: 30, 429: 20}, server.log()

        proxy.cut()
        local = [call(server, user).status for _ in range(30)]
        # A worker does not have the shared counts, so it starts with an empty counter.
        assert set(local) == {200}
        assert server.health() == 200
        answer = call(server, other_user, "POST", "/api/chat", json={"message": "hello"})
        assert (answer.status, answer.headers["X-RateLimit-Limit"]) == (200, "30")
        assert 429 in [call(server, user).status for _ in range(40)]
        assert server.log().count("in its own memory") <= 2

        proxy.repair()
        wait_until(lambda: server.log().count("by all processes together") >= 1, "a worker that counts together")
        wait_until(lambda: call(server, user).status == 429 and call(server, user).status == 429, "the count of before")
    finally:
        proxy.cut()


def test_running_turns_of_user_are_counted_over_all_workers(
    make_server: Callable[..., LiveServer], user: LoggedInUser
) -> None:
    server = make_server("words(3, pause=1.5)", CHAT_MAX_RUNNING_PER_USER="4")
    responses = concurrently(24, lambda n: call(server, user, "POST", "/api/chat", json={"message": f"hello {n}"}))
    assert Counter(response.status for response in responses) == {200: 4, 429: 20}
    rejected = [response for response in responses if response.status == 429]
    assert {response.json()["code"] for response in rejected} == {"too_many_turns"}
    assert all(int(response.headers["Retry-After"]) >= 1 for response in rejected)
    assert call(server, user, "POST", "/api/chat", json={"message": "and now?"}).status == 200


def test_tokens_of_killed_worker_are_charged(
    make_server: Callable[..., LiveServer], flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    """Tokens reserved by its turns count as used when the turns are closed as stale; no reservation remains."""
    with flask_app.app_context():
        set_quota(user_id=user.id, tokens_per_day=5_000)
        server = make_server("words(200, pause=0.2)", CHAT_STALE_SECONDS="3", WEB_WORKERS="1")
        with ThreadPoolExecutor(3) as threads:
            lost = [threads.submit(_chat_until_cut, server, user) for _ in range(3)]
            wait_until(lambda: quota_of(user_id=user.id).reserved > 3_000, "three turns under way")
            for worker in server.workers():
                worker.kill()
            assert [future.result() for future in lost] == [None] * 3
        reserved = quota_of(user_id=user.id).reserved
        assert reserved > 3_000
        wait_until(lambda: server.health() == 200, "another worker")
        # Only a request of the user closes the stale turns here. Until then the turns hold their reservation.
        set_quota(user_id=user.id, tokens_per_day=reserved + 1_100)
        wait_until(lambda: _quota_renewed_at_midnight(server, user), "a request that closes the stale turns")
        # They began one after the other, so the last of them becomes stale a moment later.
        wait_until(
            lambda: _quota_renewed_at_midnight(server, user) and quota_of(user_id=user.id).reserved == 0, "all closed"
        )
        assert quota_of(user_id=user.id).used == reserved
    with engine.connect() as connection:
        ledger = connection.execute(
            text("SELECT status, quota_tokens, quota_estimated FROM turns WHERE user_id = :u"), {"u": user.id}
        ).all()
    assert {row.status for row in ledger} == {"interrupted"}
    assert sum(row.quota_tokens for row in ledger) == reserved
    assert all(row.quota_estimated for row in ledger)


def _chat_until_cut(server: LiveServer, user: LoggedInUser) -> None:
    with pytest.raises(urllib3.exceptions.HTTPError):
        call(server, user, "POST", "/api/chat", json={"message": "hello"})


def _quota_renewed_at_midnight(server: LiveServer, user: LoggedInUser) -> bool:
    """Request more tokens than remain, which makes the server close stale turns, and return the reason."""
    answer = call(server, user, "POST", "/api/chat", json={"message": "long " * 1000})
    assert (answer.status, answer.json()["code"]) == (429, "quota_exceeded")
    return "resets at midnight" in answer.json()["detail"]
