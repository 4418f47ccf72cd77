"""Retries of a failed turn with its idempotency key: one attempt at a time, until it is answered."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask
from sqlalchemy import Engine, event, text
from werkzeug.test import TestResponse

from app.extensions import db
from tests.bundling import bundle_conversation
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.stream_checker import StreamChecker
from tests.waiting import wait_until

Rows = Callable[..., list[Any]]
REQUESTS = 8


def test_retry_after_two_failures_keeps_the_first_partial_answer(
    chat: Callable[..., TestResponse], upstream: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    """The partial answer must not count as a later message, which would make the retry impossible."""
    key = {"Idempotency-Key": "two failures"}
    upstream.queue_scripts(scripts.cut(after=2), scripts.api_error(500), scripts.echo())
    assert chat("hello", headers=key).status_code == 502
    assert chat("hello", headers=key).status_code == 502
    answer = chat("hello", headers=key)
    assert answer.status_code == 200, answer.json
    stored = rows("SELECT position, content, metadata FROM messages WHERE user_id = :u ORDER BY 1", u=user.id)
    assert [(row.position, row.content, row.metadata) for row in stored] == [
        (1, "hello", {}),
        (2, "word0 word1 ", {"partial": "failed"}),
        (3, "1 messages; last: hello", {}),
    ]


def test_simultaneous_retries_run_one_attempt(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: LoggedInUser, engine: Engine, rows: Rows
) -> None:
    clients = [make_chat_app().test_client, make_chat_app().test_client]
    headers = {**user.headers, "Idempotency-Key": "simultaneous"}

    def send(number: int) -> TestResponse:
        return clients[number % 2]().post("/api/chat", json={"message": "hello"}, headers=headers)

    upstream.queue_scripts(scripts.api_error(500))
    failed = send(0)
    assert failed.status_code == 502
    seen = len(upstream.requests)
    upstream.script = scripts.words(2, pause=0.5)
    with ThreadPoolExecutor(REQUESTS) as threads:
        with engine.begin() as holder:  # so that all see the failed turn before one starts the attempt
            query = text("SELECT FROM conversations WHERE id = :id FOR UPDATE")
            holder.execute(query, {"id": failed.json["conversation_id"]})
            pending = [threads.submit(send, number) for number in range(REQUESTS)]
            waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%turns.begin_retry%'"
            wait_until(lambda: len(rows(waiting)) == REQUESTS, "not all requests are waiting")
        answers = [future.result() for future in pending]
    assert {answer.status_code for answer in answers} == {200}, [answer.json for answer in answers]
    assert len({answer.json["message"]["id"] for answer in answers}) == 1
    assert len(upstream.requests) == seen + 1
    assert len(rows("SELECT FROM turns WHERE user_id = :u", u=user.id)) == 1


def test_retry_after_a_later_message_returns_409(
    chat: Callable[..., TestResponse], upstream: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    key = {"Idempotency-Key": "too late"}
    upstream.queue_scripts(scripts.cut(after=2))
    failed = chat("first", headers=key)
    assert chat("second", conversation_id=failed.json["conversation_id"]).status_code == 200
    retry = chat("first", headers=key)
    assert (retry.status_code, retry.json["code"]) == (409, "conversation_moved_on")
    assert len(rows("SELECT FROM messages WHERE user_id = :u", u=user.id)) == 4


def test_stream_of_a_retried_turn_restarts_with_the_new_attempt(
    chat: Callable[..., TestResponse], chat_app: Flask, upstream: Upstream, user: LoggedInUser
) -> None:
    """The events of the first attempt are stored, because it was streamed; those of the second are not."""
    key = {"Idempotency-Key": "streamed, then not"}
    upstream.queue_scripts(scripts.cut(after=2))
    first = StreamChecker()
    first.feed(chat("hello", headers=key, stream=True).get_data())
    assert (first.final_event, first.text) == ("turn.failed", "word0 word1 ")
    upstream.script = scripts.echo()
    assert chat("hello", headers=key).status_code == 200
    for after in (0, first.last_sequence):
        resumed = StreamChecker(last_sequence=after)
        headers = {**user.headers, "Last-Event-ID": str(after)}
        resumed.feed(chat_app.test_client().get(f"/api/turns/{first.turn_id}/events", headers=headers).get_data())
        assert (resumed.errors, resumed.final_event) == ([], "turn.completed")
        assert resumed.text == "1 messages; last: hello"


def test_rejected_retry_leaves_the_conversation_bundled(
    chat: Callable[..., TestResponse], chat_app: Flask, upstream: Upstream, user: LoggedInUser
) -> None:
    def status() -> str:
        response = chat_app.test_client().get(f"/api/conversations/{conversation}", headers=user.headers)
        return str(response.get_json()["status"])

    overtaken, last = {"Idempotency-Key": "overtaken"}, {"Idempotency-Key": "last"}
    upstream.queue_scripts(scripts.api_error(500), scripts.api_error(500))
    conversation = chat("first", headers=overtaken).get_json()["conversation_id"]
    assert chat("second", headers=last, conversation_id=conversation).status_code == 502
    with chat_app.app_context():
        bundle_conversation(user.id, conversation)
    assert chat("first", headers=overtaken).get_json()["code"] == "conversation_moved_on"
    assert status() == "archived"
    assert chat("second", headers=last, conversation_id=conversation).status_code == 200
    assert status() == "active"


def test_conversation_bundled_just_before_its_retry_is_restored(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    chat_app, headers = make_chat_app(), {**user.headers, "Idempotency-Key": "bundled"}
    bundled: list[str] = []

    def send() -> TestResponse:
        return chat_app.test_client().post("/api/chat", json={"message": "hello"}, headers=headers)

    upstream.queue_scripts(scripts.cut(after=2), scripts.echo())
    conversation = send().get_json()["conversation_id"]
    with chat_app.app_context():
        engine = db.engine

    @event.listens_for(engine, "before_cursor_execute")
    def bundle_before_retry(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "turns.begin_retry" in statement and not bundled:
            bundled.append(conversation)
            bundle_conversation(user.id, conversation)

    answer = send()
    assert (answer.status_code, bundled) == (200, [conversation]), answer.json
    assert rows("SELECT storage FROM conversations WHERE id = :c", c=conversation)[0].storage == "live"
    stored = rows("SELECT content FROM messages WHERE conversation_id = :c ORDER BY position", c=conversation)
    assert [row.content for row in stored] == ["hello", "word0 word1 ", "1 messages; last: hello"]
