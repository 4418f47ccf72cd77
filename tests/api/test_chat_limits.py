"""What people are told when they have used up their share of turns or tokens, and what they see of it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask

from app.config import Settings
from ops.accounts.quotas import quota_of, set_quota
from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Post = Callable[..., Any]


@pytest.fixture(scope="module")
def limited_app(make_chat_app: Callable[..., Flask], settings: Settings) -> Flask:
    return make_chat_app(chat={"max_running_per_user": 2, "quota_output_tokens": 50})


@pytest.fixture
def _in_application(limited_app: Flask) -> Iterator[None]:
    with limited_app.app_context():
        yield


@pytest.fixture
def post(limited_app: Flask, user: Account) -> Post:
    def post(message: str = "hello", account: Account = user, **body: Any) -> Any:
        return limited_app.test_client().post("/api/chat", json={"message": message, **body}, headers=account.headers)

    return post


def test_a_third_turn_at_the_same_time_is_refused_and_comes_back_later(post: Post, upstream: Upstream) -> None:
    upstream.script = scripts.words(4, pause=0.5)
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(post) for _ in range(2)]
        upstream.wait_for(lambda: upstream.open_streams >= 2)
        refused = post()
        assert (refused.status_code, refused.json["code"]) == (429, "too_many_turns")
        assert refused.content_type == "application/problem+json"
        assert "2 is the most" in refused.json["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
        assert [each.result().status_code for each in running] == [200, 200]
    upstream.script = scripts.words()
    assert post().status_code == 200


@pytest.mark.usefixtures("_in_application")
def test_a_quota_that_is_used_up_says_when_it_is_renewed(post: Post, limited_app: Flask, user: Account) -> None:
    def me() -> Any:
        return limited_app.test_client().get("/api/auth/me", headers=user.headers).json.get("quota")

    assert me() is None
    set_quota(user_id=user.id, tokens_per_day=60)
    assert post().status_code == 200
    used = quota_of(user_id=user.id).used
    assert used > 0
    shown = me()
    resets_at = datetime.fromisoformat(shown.pop("resets_at"))
    assert 0 < (resets_at - datetime.now(UTC)).total_seconds() <= 86_400
    assert shown == {"tokens_per_day": 60, "used": used, "reserved": 0, "remaining": 60 - used}
    refused = post("and then?" * 40)
    assert (refused.status_code, refused.json["code"]) == (429, "quota_exceeded")
    assert f"{60 - used} are left" in refused.json["detail"]
    assert abs(int(refused.headers["Retry-After"]) - (resets_at - datetime.now(UTC)).total_seconds()) < 60
    assert len(limited_app.test_client().get("/api/conversations", headers=user.headers).json["items"]) == 1


@pytest.mark.usefixtures("_in_application")
def test_one_users_quota_is_nobody_elses(post: Post, user: Account, other_user: Account) -> None:
    set_quota(user_id=user.id, tokens_per_day=1)
    assert post().status_code == 429
    assert post(account=other_user).status_code == 200
