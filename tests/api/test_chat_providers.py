"""Chats while providers fail: asked again, left alone, replaced, and what the turn says of it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from pydantic import SecretStr
from werkzeug.test import TestResponse

from tests.api.conftest import events_of
from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.exchange import Script
from tests.fakes.upstream import Upstream
from tests.metrics.scrape import Since, here

Post = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def second() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture
def make_chat(
    make_chat_app: Callable[..., Flask], upstream: Upstream, second: Upstream, user: Account
) -> Callable[..., Post]:
    """Makes a function that posts to an application of its own; keyword arguments are settings of the provider.

    `compatible`, the default, is `upstream`; `openrouter` is `second`.
    """
    second.script = scripts.says(["from the second"])
    upstream.requests.clear()
    second.requests.clear()

    def make(**settings: Any) -> Post:
        provider = {
            "name": "compatible",
            "openai_base_url": upstream.base_url,
            "openrouter_api_key": SecretStr("sk-router"),
            "openrouter_base_url": second.base_url,
            "first_token_timeout": 10,
            "total_timeout": 60,
            **settings,
        }
        client = make_chat_app(provider=provider).test_client

        def post(message: str = "hello", path: str = "/api/chat", headers: Any = (), **body: Any) -> TestResponse:
            document = {"message": message, **body} if message else body
            return client().post(path, json=document, headers={**user.headers, **dict(headers)})

        return post

    return make


def test_a_passing_failure_is_not_seen(
    make_chat: Callable[..., Post], upstream: Upstream, user: Account, rows: Rows
) -> None:
    since = Since()
    upstream.then(scripts.refusal(500), scripts.reset(), scripts.words(3))
    events = events_of(make_chat()(stream=True))
    kinds = [kind for _, kind, _ in events]
    assert kinds == ["turn.started", *["message.delta"] * 3, "message.completed", "turn.completed"]
    assert len(upstream.requests) == 3
    kept = rows("SELECT role, content FROM messages WHERE user_id = :u ORDER BY position", u=user.id)
    assert [tuple(row) for row in kept] == [("user", "hello"), ("assistant", "word0 word1 word2 ")]
    assert since.counted("ai_retries_total", provider="compatible", error_type="provider_bad_answer") == 1
    assert since.counted("ai_retries_total", provider="compatible", error_type="provider_unreachable") == 1
    assert since.counted("ai_fallbacks_total") == 0


def test_a_lasting_one_says_what_was_tried(
    make_chat: Callable[..., Post], upstream: Upstream, user: Account, rows: Rows
) -> None:
    upstream.script = scripts.refusal(500)
    response = make_chat()()
    assert response.status_code == 502
    problem = response.get_json()
    assert problem["code"] == "provider_bad_answer"
    assert problem["detail"].endswith("Given up after 3 tries of compatible.")
    assert len(upstream.requests) == 3
    [turn] = rows("SELECT status, provider, error FROM turns WHERE user_id = :u", u=user.id)
    assert (turn.status, turn.provider) == ("failed", "compatible")
    assert turn.error == {"code": "provider_bad_answer", "detail": problem["detail"]}


def test_a_half_answer_is_not_asked_for_again(
    make_chat: Callable[..., Post], upstream: Upstream, second: Upstream, user: Account, rows: Rows
) -> None:
    upstream.script = scripts.cut(after=2)
    assert make_chat(fallback=("openrouter",))().status_code == 502
    assert (len(upstream.requests), len(second.requests)) == (1, 0)
    [message] = rows("SELECT content, metadata FROM messages WHERE user_id = :u AND role = 'assistant'", u=user.id)
    assert (message.content, message.metadata) == ("word0 word1 ", {"partial": "failed"})


def test_more_patience_than_there_is_time_for_is_told_at_once(
    make_chat: Callable[..., Post], upstream: Upstream
) -> None:
    upstream.script = scripts.refusal(429, headers={"Retry-After": "600"})
    response = make_chat()()
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "600"
    assert len(upstream.requests) == 1


def test_an_open_circuit_is_told_and_heals(make_chat: Callable[..., Post], upstream: Upstream) -> None:
    post = make_chat(retries=1, breaker_failures=4, breaker_seconds=1000)
    upstream.script = scripts.refusal(500)
    assert [post().status_code for _ in range(3)] == [502, 502, 503]
    assert here().value("ai_circuit_state", provider="compatible") == 2
    upstream.script = scripts.words(1)
    response = post()
    assert len(upstream.requests) == 4
    assert response.get_json()["code"] == "provider_circuit_open"
    assert 900 < int(response.headers["Retry-After"]) <= 1000
    conversation = response.get_json()["conversation_id"]
    healed = make_chat(breaker_failures=4)
    assert healed(conversation_id=conversation).status_code == 200
    assert here().value("ai_circuit_state", provider="compatible") == 0


@pytest.mark.parametrize(
    ("script", "asked"),
    [(scripts.refusal(500), 2), (scripts.refusal(401), 1), (scripts.reset(), 2), (scripts.hang(), 1)],
    ids=["500", "misconfigured", "reset", "silence"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_the_turn_records_who_really_answered(
    make_chat: Callable[..., Post],
    upstream: Upstream,
    second: Upstream,
    user: Account,
    rows: Rows,
    script: Script,
    asked: int,
    stream: bool,
) -> None:
    since = Since()
    upstream.script = script
    response = make_chat(fallback=("openrouter",), retries=1, first_token_timeout=2)(stream=stream)
    assert response.status_code == 200
    turn = events_of(response)[-1][2]["turn"] if stream else response.get_json()["turn"]
    assert (turn["status"], turn["provider"], turn["model"]) == ("completed", "openrouter", "fake-model")
    assert (len(upstream.requests), len(second.requests)) == (asked, 1)
    [row] = rows("SELECT status, provider, model, error FROM turns WHERE user_id = :u", u=user.id)
    assert tuple(row) == ("completed", "openrouter", "fake-model", None)
    assert since.counted("ai_fallbacks_total", provider="openrouter") == 1
    assert since.counted("ai_request_duration_seconds_count", provider="openrouter", outcome="completed") == 1


def test_half_an_answer_of_the_fallback_is_the_fallbacks(
    make_chat: Callable[..., Post], upstream: Upstream, second: Upstream, user: Account, rows: Rows
) -> None:
    upstream.script, second.script = scripts.refusal(401), scripts.cut(after=1)
    post = make_chat(fallback=("openrouter",))
    project = post("", "/api/projects", name="Parrot", provider="compatible", model="parrot-1").get_json()["id"]
    assert post(project_id=project).status_code == 502
    [row] = rows("SELECT status, provider, model FROM turns WHERE user_id = :u", u=user.id)
    assert tuple(row) == ("failed", "openrouter", None), "the model that was chosen is not its"
    assert upstream.requests[-1].body["model"] == "parrot-1"
    assert second.requests[-1].body["model"] == "openrouter/auto"


@pytest.mark.parametrize("named", [{"provider": "compatible"}, {"model": "this-one"}], ids=["provider", "model"])
def test_what_the_request_names_is_not_replaced(
    make_chat: Callable[..., Post], upstream: Upstream, second: Upstream, user: Account, rows: Rows, named: Any
) -> None:
    upstream.script = scripts.refusal(401)
    response = make_chat(fallback=("openrouter",))(**named)
    assert response.status_code == 502
    assert response.get_json()["code"] == "provider_misconfigured"
    assert second.requests == []
    [row] = rows("SELECT provider, model FROM turns WHERE user_id = :u", u=user.id)
    assert tuple(row) == ("compatible", named.get("model"))


def test_run_again_the_chosen_one_is_asked_first(
    make_chat: Callable[..., Post], upstream: Upstream, second: Upstream, user: Account, rows: Rows
) -> None:
    upstream.script = second.script = scripts.refusal(401)
    post = make_chat(fallback=("openrouter",))
    key = {"Idempotency-Key": "again"}
    failed = post(headers=key)
    assert failed.get_json()["detail"].endswith("Given up after 1 try of compatible, 1 try of openrouter.")
    second.script = scripts.words(1)
    assert post(headers=key).get_json()["turn"]["provider"] == "openrouter"
    rows_now = rows("SELECT provider, status FROM turns WHERE user_id = :u", u=user.id)
    assert [tuple(row) for row in rows_now] == [("openrouter", "completed")]
    assert (len(upstream.requests), len(second.requests)) == (2, 2)


@pytest.mark.timeout(60)
def test_a_cancelled_turn_does_not_wait_to_ask_again(
    make_chat: Callable[..., Post], upstream: Upstream, second: Upstream, user: Account, rows: Rows
) -> None:
    upstream.script = scripts.refusal(503, headers={"Retry-After": "1000"})
    post = make_chat(total_timeout=3000)
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(post)
        upstream.wait_for(lambda: len(upstream.requests) == 1 and upstream.open_streams == 0)
        [turn] = rows("SELECT id FROM turns WHERE user_id = :u AND status = 'running'", u=user.id)
        assert post("", f"/api/turns/{turn.id}/cancel").status_code == 202
        body = pending.result(timeout=30).get_json()
    assert body["turn"]["status"] == "cancelled"
    assert body["turn"]["error"] is None
    assert len(upstream.requests) == 1
