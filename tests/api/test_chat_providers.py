"""Chats while providers fail: retries, circuit breaker, fallback, and what the turn records."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from pydantic import SecretStr
from werkzeug.test import TestResponse

from tests.api.conftest import events_of
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.metrics.scrape import Since, here

Post = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def second() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def make_chat(
    make_chat_app: Callable[..., Flask], upstream: Upstream, second: Upstream, user: LoggedInUser
) -> Callable[..., Post]:
    """Return a function that makes a new application, given provider settings, and returns a function that posts to it.

    `compatible`, the default, is `upstream`; `openrouter` is `second`.
    """
    second.script = scripts.stream_pieces(["from the second"])
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


def test_transient_provider_failure_is_retried(
    make_chat: Callable[..., Post], upstream: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    since = Since()
    upstream.queue_scripts(scripts.api_error(500), scripts.reset(), scripts.words(3))
    events = events_of(make_chat()(stream=True))
    kinds = [kind for _, kind, _ in events]
    assert kinds == ["turn.started", *["message.delta"] * 3, "message.completed", "turn.completed"]
    assert len(upstream.requests) == 3
    messages = rows("SELECT role, content FROM messages WHERE user_id = :u ORDER BY position", u=user.id)
    assert [tuple(row) for row in messages] == [("user", "hello"), ("assistant", "word0 word1 word2 ")]
    assert since.counted("ai_retries_total", provider="compatible", error_type="provider_bad_answer") == 1
    assert since.counted("ai_retries_total", provider="compatible", error_type="provider_unreachable") == 1
    assert since.counted("ai_fallbacks_total") == 0


def test_lasting_provider_failure_reports_tries(
    make_chat: Callable[..., Post], upstream: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    upstream.script = scripts.api_error(500)
    response = make_chat()()
    assert response.status_code == 502
    problem = response.get_json()
    assert problem["code"] == "provider_bad_answer"
    assert problem["detail"].endswith("Given up after 3 tries of compatible.")
    assert len(upstream.requests) == 3
    [turn] = rows("SELECT status, provider, error FROM turns WHERE user_id = :u", u=user.id)
    assert (turn.status, turn.provider) == ("failed", "compatible")
    assert turn.error == {"code": "provider_bad_answer", "detail": problem["detail"]}


def test_partial_answer_is_not_retried(
    make_chat: Callable[..., Post], upstream: Upstream, second: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    upstream.script = scripts.cut(after=2)
    assert make_chat(fallback=("openrouter",))().status_code == 502
    assert (len(upstream.requests), len(second.requests)) == (1, 0)
    [message] = rows("SELECT content, metadata FROM messages WHERE user_id = :u AND role = 'assistant'", u=user.id)
    assert (message.content, message.metadata) == ("word0 word1 ", {"partial": "failed"})


def test_retry_after_over_deadline_fails_at_once(make_chat: Callable[..., Post], upstream: Upstream) -> None:
    upstream.script = scripts.api_error(429, headers={"Retry-After": "600"})
    response = make_chat()()
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "600"
    assert len(upstream.requests) == 1


def test_open_circuit_returns_503_and_closes_after_success(make_chat: Callable[..., Post], upstream: Upstream) -> None:
    post = make_chat(retries=1, circuit_failures=4, circuit_open_seconds=1000)
    upstream.script = scripts.api_error(500)
    assert [post().status_code for _ in range(3)] == [502, 502, 503]
    assert here().value("ai_circuit_state", provider="compatible") == 2
    upstream.script = scripts.words(1)
    response = post()
    assert len(upstream.requests) == 4
    assert response.get_json()["code"] == "provider_circuit_open"
    assert 900 < int(response.headers["Retry-After"]) <= 1000
    conversation = response.get_json()["conversation_id"]
    recovered = make_chat(circuit_failures=4)
    assert recovered(conversation_id=conversation).status_code == 200
    assert here().value("ai_circuit_state", provider="compatible") == 0


@pytest.mark.parametrize(
    ("script", "requests"),
    [(scripts.api_error(500), 2), (scripts.api_error(401), 1), (scripts.reset(), 2), (scripts.hang(), 1)],
    ids=["500", "misconfigured", "reset", "silence"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_turn_records_fallback_provider(
    make_chat: Callable[..., Post],
    upstream: Upstream,
    second: Upstream,
    user: LoggedInUser,
    rows: Rows,
    script: Script,
    requests: int,
    stream: bool,
) -> None:
    since = Since()
    upstream.script = script
    response = make_chat(fallback=("openrouter",), retries=1, first_token_timeout=2)(stream=stream)
    assert response.status_code == 200
    turn = events_of(response)[-1][2]["turn"] if stream else response.get_json()["turn"]
    assert (turn["status"], turn["provider"], turn["model"]) == ("completed", "openrouter", "fake-model")
    assert (len(upstream.requests), len(second.requests)) == (requests, 1)
    [row] = rows("SELECT status, provider, model, error FROM turns WHERE user_id = :u", u=user.id)
    assert tuple(row) == ("completed", "openrouter", "fake-model", None)
    assert since.counted("ai_fallbacks_total", provider="openrouter") == 1
    assert since.counted("ai_request_duration_seconds_count", provider="openrouter", outcome="completed") == 1


def test_partial_answer_of_fallback_records_fallback(
    make_chat: Callable[..., Post], upstream: Upstream, second: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    upstream.script, second.script = scripts.api_error(401), scripts.cut(after=1)
    post = make_chat(fallback=("openrouter",))
    project = post("", "/api/projects", name="Parrot", provider="compatible", model="parrot-1").get_json()["id"]
    assert post(project_id=project).status_code == 502
    [row] = rows("SELECT status, provider, model FROM turns WHERE user_id = :u", u=user.id)
    assert tuple(row) == ("failed", "openrouter", None), "the chosen model belongs to the other provider"
    assert upstream.requests[-1].body["model"] == "parrot-1"
    assert second.requests[-1].body["model"] == "openrouter/auto"


@pytest.mark.parametrize("named", [{"provider": "compatible"}, {"model": "this-one"}], ids=["provider", "model"])
def test_named_provider_or_model_has_no_fallback(
    make_chat: Callable[..., Post], upstream: Upstream, second: Upstream, user: LoggedInUser, rows: Rows, named: Any
) -> None:
    upstream.script = scripts.api_error(401)
    response = make_chat(fallback=("openrouter",))(**named)
    assert response.status_code == 502
    assert response.get_json()["code"] == "provider_misconfigured"
    assert second.requests == []
    [row] = rows("SELECT provider, model FROM turns WHERE user_id = :u", u=user.id)
    assert tuple(row) == ("compatible", named.get("model"))


def test_retry_asks_chosen_provider_first(
    make_chat: Callable[..., Post], upstream: Upstream, second: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    upstream.script = second.script = scripts.api_error(401)
    post = make_chat(fallback=("openrouter",))
    key = {"Idempotency-Key": "again"}
    failed = post(headers=key)
    assert failed.get_json()["detail"].endswith("Given up after 1 try of compatible, 1 try of openrouter.")
    second.script = scripts.words(1)
    assert post(headers=key).get_json()["turn"]["provider"] == "openrouter"
    turns = rows("SELECT provider, status FROM turns WHERE user_id = :u", u=user.id)
    assert [tuple(row) for row in turns] == [("openrouter", "completed")]
    assert (len(upstream.requests), len(second.requests)) == (2, 2)


@pytest.mark.timeout(60)
def test_cancel_ends_wait_for_provider_retry(
    make_chat: Callable[..., Post], upstream: Upstream, second: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    upstream.script = scripts.api_error(503, headers={"Retry-After": "1000"})
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


def test_answer_without_a_rejected_project_option_says_so(
    make_chat: Callable[..., Post], upstream: Upstream, user: LoggedInUser
) -> None:
    async def reject_temperature(exchange: Exchange) -> None:
        message = "Unsupported value: 'temperature' does not support 0.2 with this model."
        rejected = "temperature" in (exchange.json() or {})
        await (scripts.api_error(400, message) if rejected else scripts.words(2))(exchange)

    upstream.script = reject_temperature
    post = make_chat()
    project = post("", "/api/projects", name="Calm", settings={"temperature": 0.2}).json["id"]
    response = post(project_id=project)
    assert response.status_code == 200
    assert response.json["message"]["metadata"] == {"dropped_options": ["temperature"]}
    assert len(upstream.requests) == 2
