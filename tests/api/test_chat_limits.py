"""Responses at the limits of running turns and of tokens per day."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask

from app.config import Settings
from app.services.quotas import quota_of, set_quota
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Post = Callable[..., Any]


@pytest.fixture(scope="module")
def limited_app(make_chat_app: Callable[..., Flask], settings: Settings) -> Flask:
    return make_chat_app(chat={"max_running_per_user": 2, "quota_reserved_output_tokens": 50})


@pytest.fixture
def _in_application(limited_app: Flask) -> Iterator[None]:
    with limited_app.app_context():
        yield


@pytest.fixture
def post(limited_app: Flask, user: LoggedInUser) -> Post:
    def post(message: str = "hello", account: LoggedInUser = user, **body: Any) -> Any:
        return limited_app.test_client().post("/api/chat", json={"message": message, **body}, headers=account.headers)

    return post


def test_turn_over_running_limit_returns_429_until_one_ends(post: Post, upstream: Upstream) -> None:
    upstream.script = scripts.words(4, pause=0.5)
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(post) for _ in range(2)]
        upstream.wait_for(lambda: upstream.open_streams >= 2)
        rejected = post()
        assert (rejected.status_code, rejected.json["code"]) == (429, "too_many_turns")
        assert rejected.content_type == "application/problem+json"
        assert "the limit is 2" in rejected.json["detail"]
        assert int(rejected.headers["Retry-After"]) >= 1
        assert [response.result().status_code for response in running] == [200, 200]
    upstream.script = scripts.words()
    assert post().status_code == 200


@pytest.mark.usefixtures("_in_application")
def test_exhausted_quota_returns_429_until_midnight(post: Post, limited_app: Flask, user: LoggedInUser) -> None:
    def own_quota() -> Any:
        return limited_app.test_client().get("/api/auth/me", headers=user.headers).json.get("quota")

    assert own_quota() is None
    set_quota(user_id=user.id, tokens_per_day=60)
    assert post().status_code == 200
    used = quota_of(user_id=user.id).used
    assert used > 0
    quota = own_quota()
    resets_at = datetime.fromisoformat(quota.pop("resets_at"))
    assert 0 < (resets_at - datetime.now(UTC)).total_seconds() <= 86_400
    assert quota == {"tokens_per_day": 60, "used": used, "reserved": 0, "remaining": 60 - used}
    rejected = post("and then?" * 40)
    assert (rejected.status_code, rejected.json["code"]) == (429, "quota_exceeded")
    assert f"{60 - used} of your 60 tokens for today are left" in rejected.json["detail"]
    assert abs(int(rejected.headers["Retry-After"]) - (resets_at - datetime.now(UTC)).total_seconds()) < 60
    assert len(limited_app.test_client().get("/api/conversations", headers=user.headers).json["items"]) == 1


@pytest.mark.usefixtures("_in_application")
def test_quota_of_one_user_does_not_limit_another(post: Post, user: LoggedInUser, other_user: LoggedInUser) -> None:
    set_quota(user_id=user.id, tokens_per_day=1)
    assert post().status_code == 429
    assert post(account=other_user).status_code == 200
