"""Metrics of turns and providers: each end is counted once, as stored, with bounded label values."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.container import services
from app.metrics.registry import OTHER
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.metrics.scrape import Since, here
from tests.waiting import wait_until

Chat = Callable[..., TestResponse]


@pytest.fixture
def model(chat_app: Flask) -> str:
    """Return the configured model."""
    with chat_app.app_context():
        return services().providers.default.default_model


def test_completed_turn_is_counted_with_its_tokens(chat: Chat, upstream: Upstream, since: Since, model: str) -> None:
    upstream.script = scripts.words(4)
    usage = chat().get_json()["usage"]
    wait_until(lambda: since.counted("turns_total") == 1)
    assert since.counted("turns_total", status="completed") == 1
    assert since.counted("turn_duration_seconds_count") == 1
    assert since.counted("turns_running") == 0
    labels = {"provider": "compatible", "model": model}
    assert since.counted("ai_request_duration_seconds_count", outcome="completed", **labels) == 1
    assert since.counted("ai_time_to_first_token_seconds_count", **labels) == 1
    first_token, total = (
        since.counted(f"{name}_seconds_sum", **labels) for name in ("ai_time_to_first_token", "ai_request_duration")
    )
    assert 0 < first_token < total
    assert since.counted("ai_tokens_total", type="input") == usage["input_tokens"] > 0
    assert since.counted("ai_tokens_total", type="output") == usage["output_tokens"] > 0
    assert since.counted("ai_errors_total") == 0


def test_unconfigured_model_is_labelled_other(chat: Chat, upstream: Upstream, since: Since) -> None:
    assert chat(model="invented-model").status_code == 200
    wait_until(lambda: since.counted("turns_total") == 1)
    assert since.counted("ai_request_duration_seconds_count", provider="compatible", model=OTHER) == 1
    assert "invented-model" not in here().text


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (scripts.api_error(500), "provider_bad_answer"),
        (scripts.api_error(429), "provider_overloaded"),
        (scripts.api_error(401), "provider_misconfigured"),
    ],
)
def test_failed_turn_is_counted_by_error_code(
    chat: Chat, upstream: Upstream, since: Since, script: Any, code: str
) -> None:
    upstream.script = script
    chat()
    wait_until(lambda: since.counted("turns_total") == 1)
    assert since.counted("turns_total", status="failed") == 1
    assert since.counted("ai_errors_total", error_type=code) == since.counted("ai_errors_total") == 1
    assert since.counted("ai_request_duration_seconds_count", outcome="failed") == 1
    assert since.counted("ai_time_to_first_token_seconds_count") == 0
    assert since.counted("turns_running") == 0


def test_interrupted_turn_is_no_provider_error(
    chat: Chat, chat_app: Flask, upstream: Upstream, user: LoggedInUser, since: Since
) -> None:
    upstream.script = scripts.words(1, first=60)
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(chat)
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        assert since.counted("turns_running") == 1
        with chat_app.app_context():
            services().turns.interrupt_all()
        pending.result()
    wait_until(lambda: since.counted("turns_total") == 1)
    assert since.counted("turns_total", status="interrupted") == 1
    assert since.counted("ai_request_duration_seconds_count", outcome="cancelled") == 1
    assert since.counted("ai_errors_total") == 0
    assert since.counted("turns_running") == 0


def test_repeated_key_counts_as_resumed_then_replayed(chat: Chat, upstream: Upstream, since: Since) -> None:
    upstream.script = scripts.words(5, pause=0.1)
    key = {"Idempotency-Key": "once"}
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(chat, "hello", headers=key)
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        joined = chat("hello", headers=key)
        assert joined.get_json() == first.result().get_json()
    assert since.counted("turns_resumed_total") == 1
    assert since.counted("turns_replayed_total") == 0
    chat("hello", headers=key)
    assert since.counted("turns_replayed_total") == 1
    wait_until(lambda: since.counted("turns_running") == 0)
    assert since.counted("turns_total") == since.counted("ai_request_duration_seconds_count") == 1


def test_attempt_closed_elsewhere_is_not_counted(
    chat: Chat, upstream: Upstream, user: LoggedInUser, engine: Engine, since: Since
) -> None:
    upstream.script = scripts.words(100, pause=0.1)
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(chat, "long")
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        with engine.begin() as connection:
            connection.execute(
                text("""
                WITH c AS (UPDATE conversations SET running_attempt = NULL WHERE user_id = :u RETURNING user_id)
                UPDATE turns SET status = 'interrupted', finished_at = now() FROM c WHERE turns.user_id = c.user_id"""),
                {"u": user.id},
            )
        pending.result()
    wait_until(lambda: since.counted("turns_running") == 0)
    assert since.counted("turns_total") == 0  # the process that closed it has counted it


def test_rejected_request_counts_no_turn(chat: Chat, since: Since, user: LoggedInUser) -> None:
    assert chat(conversation_id=str(user.id)).status_code == 404
    assert since.counted("turns_running") == since.counted("turns_total") == 0
