"""Limits on servers that are hurt: several workers, a Redis that goes and comes, workers that are killed."""

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
from ops import embedded
from ops.accounts.quotas import quota_of, set_quota
from tests.database import run_folder
from tests.factories import Account
from tests.faults.rig import Rig, until
from tests.jobs.conftest import through
from tests.jobs.processes import Gate

pytestmark = pytest.mark.process

LISTED = "/api/conversations"


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with embedded.lease_redis(run_folder(), durable=False) as lease:
        yield lease.url


@pytest.fixture
def make_rig(settings: Settings, flask_app: Flask, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """A function that starts a server with two workers and a provider; keyword arguments are its settings."""
    made: list[Rig] = []

    def make(script: str, **variables: str) -> Rig:
        made.append(Rig(tmp_path, settings.database.url or "", LOG_LEVEL="INFO", **variables))
        made[-1].start_upstream(script)
        made[-1].start_web()
        return made[-1]

    yield make
    for each in made:
        each.stop()


def call(rig: Rig, account: Account, method: str = "GET", path: str = LISTED, **options: Any) -> Any:
    """One request on a connection of its own, so that the workers share them."""
    headers = {**account.headers, "Connection": "close"}
    return rig.http.request(method, rig.url + path, headers=headers, timeout=60, **options)


def at_once(calls: int, one: Callable[[int], Any]) -> list[Any]:
    gate = threading.Barrier(calls)

    def wait_and(number: int) -> Any:
        gate.wait()
        return one(number)

    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(wait_and, range(calls)))


@pytest.mark.slow
def test_without_its_redis_chat_works_and_each_worker_counts_for_itself(
    make_rig: Callable[..., Rig], redis_url: str, user: Account, other_user: Account
) -> None:
    gate = Gate(int(redis_url.rpartition(":")[2].partition("/")[0]))
    try:
        rig = make_rig("words(2)", CELERY_BROKER_URL=through(gate, redis_url), RATE_LIMIT_USER="30")
        together = at_once(50, lambda _: call(rig, user).status)
        assert Counter(together) == {200: 30, 429: 20}, rig.log.read_text()

        gate.shut()
        alone = [call(rig, user).status for _ in range(30)]
        # What was counted together is not known to a worker by itself: each has a share of its own.
        assert set(alone) == {200}
        assert rig.health() == 200
        spoken = call(rig, other_user, "POST", "/api/chat", json={"message": "hello"})
        assert (spoken.status, spoken.headers["X-RateLimit-Limit"]) == (200, "30")
        assert 429 in [call(rig, user).status for _ in range(40)]
        assert rig.log.read_text().count("by each process alone") <= 2

        gate.open()
        until(lambda: rig.log.read_text().count("by all processes together") >= 1, "a worker that counts together")
        until(lambda: call(rig, user).status == 429 and call(rig, user).status == 429, "the count of before")
    finally:
        gate.shut()


@pytest.mark.slow
def test_turns_of_one_user_are_counted_over_all_workers(make_rig: Callable[..., Rig], user: Account) -> None:
    rig = make_rig("words(3, pause=1.5)", CHAT_MAX_RUNNING_PER_USER="4")
    bodies = at_once(24, lambda n: call(rig, user, "POST", "/api/chat", json={"message": f"hello {n}"}))
    assert Counter(each.status for each in bodies) == {200: 4, 429: 20}
    refused = [each for each in bodies if each.status == 429]
    assert {each.json()["code"] for each in refused} == {"too_many_turns"}
    assert all(int(each.headers["Retry-After"]) >= 1 for each in refused)
    assert call(rig, user, "POST", "/api/chat", json={"message": "and now?"}).status == 200


@pytest.mark.slow
def test_a_killed_worker_keeps_no_tokens_from_its_user(
    make_rig: Callable[..., Rig], flask_app: Flask, engine: Engine, user: Account
) -> None:
    """What its turns had set aside counts as used, once somebody finds them silent; nothing stays set aside."""
    with flask_app.app_context():
        set_quota(user_id=user.id, tokens_per_day=5_000)
        rig = make_rig("words(200, pause=0.2)", CHAT_STALE_SECONDS="3", WEB_WORKERS="1")
        with ThreadPoolExecutor(3) as threads:
            lost = [threads.submit(_chat_until_cut, rig, user) for _ in range(3)]
            until(lambda: quota_of(user_id=user.id).reserved > 3_000, "three turns under way")
            for worker in rig.workers():
                worker.kill()
            assert [each.result() for each in lost] == [None] * 3
        reserved = quota_of(user_id=user.id).reserved
        assert reserved > 3_000
        until(lambda: rig.health() == 200, "another worker")
        # Nobody but the next caller looks here. As long as they count as running, it is told to wait for them.
        set_quota(user_id=user.id, tokens_per_day=reserved + 1_100)
        until(lambda: _told_to_wait_for_midnight(rig, user), "somebody who closes the silent turns")
        # They began one after the other, so the last of them may be silent for long enough a moment later.
        until(lambda: _told_to_wait_for_midnight(rig, user) and quota_of(user_id=user.id).reserved == 0, "all closed")
        assert quota_of(user_id=user.id).used == reserved
    with engine.connect() as connection:
        ledger = connection.execute(
            text("SELECT status, quota_tokens, quota_estimated FROM turns WHERE user_id = :u"), {"u": user.id}
        ).all()
    assert {row.status for row in ledger} == {"interrupted"}
    assert sum(row.quota_tokens for row in ledger) == reserved
    assert all(row.quota_estimated for row in ledger)


def _chat_until_cut(rig: Rig, user: Account) -> None:
    with pytest.raises(urllib3.exceptions.HTTPError):
        call(rig, user, "POST", "/api/chat", json={"message": "hello"})


def _told_to_wait_for_midnight(rig: Rig, user: Account) -> bool:
    """Ask for more than is left, which has the server look for silent turns."""
    answer = call(rig, user, "POST", "/api/chat", json={"message": "long " * 1000})
    assert (answer.status, answer.json()["code"]) == (429, "quota_exceeded")
    return "renewed at midnight" in answer.json()["detail"]
