"""The same request after a failure, and after that again: whoever asks, one attempt at a time, until it is answered."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask
from sqlalchemy import Engine, event, text
from werkzeug.test import TestResponse

from app.extensions import db
from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.bundling import put_away
from tests.faults.ear import Ear
from tests.faults.rig import until

Rows = Callable[..., list[Any]]
MANY = 8


def test_a_failure_that_leaves_nothing_after_one_that_left_something(
    chat: Callable[..., TestResponse], upstream: Upstream, user: Account, rows: Rows
) -> None:
    """The half answer of the first attempt stays, and is no later message of somebody else's."""
    key = {"Idempotency-Key": "again and again"}
    upstream.then(scripts.cut(after=2), scripts.refusal(500), scripts.echo())
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


def test_many_ask_again_at_once(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: Account, engine: Engine, rows: Rows
) -> None:
    """One of them runs it, on whichever process; the others hear the same."""
    clients = [make_chat_app().test_client, make_chat_app().test_client]
    headers = {**user.headers, "Idempotency-Key": "all at once"}

    def ask(number: int) -> TestResponse:
        return clients[number % 2]().post("/api/chat", json={"message": "hello"}, headers=headers)

    upstream.then(scripts.refusal(500))
    failed = ask(0)
    assert failed.status_code == 502
    seen = len(upstream.requests)
    upstream.script = scripts.words(2, pause=0.5)
    with ThreadPoolExecutor(MANY) as threads:
        with engine.begin() as holder:  # so that all of them have seen it failed before one of them begins
            query = text("SELECT FROM conversations WHERE id = :id FOR UPDATE")
            holder.execute(query, {"id": failed.json["conversation_id"]})
            pending = [threads.submit(ask, number) for number in range(MANY)]
            waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%turns.begin_again%'"
            until(lambda: len(rows(waiting)) == MANY, "all of them waiting")
        answers = [each.result() for each in pending]
    assert {answer.status_code for answer in answers} == {200}, [answer.json for answer in answers]
    assert len({answer.json["message"]["id"] for answer in answers}) == 1
    assert len(upstream.requests) == seen + 1
    assert len(rows("SELECT FROM turns WHERE user_id = :u", u=user.id)) == 1


def test_it_is_not_run_again_once_something_else_was_said(
    chat: Callable[..., TestResponse], upstream: Upstream, user: Account, rows: Rows
) -> None:
    key = {"Idempotency-Key": "too late"}
    upstream.then(scripts.cut(after=2))
    failed = chat("first", headers=key)
    assert chat("second", conversation_id=failed.json["conversation_id"]).status_code == 200
    again = chat("first", headers=key)
    assert (again.status_code, again.json["code"]) == (409, "conversation_moved_on")
    assert len(rows("SELECT FROM messages WHERE user_id = :u", u=user.id)) == 4


def test_an_attempt_that_nobody_followed_is_told_as_a_new_one(
    chat: Callable[..., TestResponse], chat_app: Flask, upstream: Upstream, user: Account
) -> None:
    """The first attempt was streamed and its pieces are stored; the second was not. Both readers hear it begin anew."""
    key = {"Idempotency-Key": "streamed, then not"}
    upstream.then(scripts.cut(after=2))
    first = Ear()
    first.take(chat("hello", headers=key, stream=True).get_data())
    assert (first.ending, first.text) == ("turn.failed", "word0 word1 ")
    upstream.script = scripts.echo()
    assert chat("hello", headers=key).status_code == 200
    for after in (0, first.last):
        again = Ear(last=after)
        headers = {**user.headers, "Last-Event-ID": str(after)}
        again.take(chat_app.test_client().get(f"/api/turns/{first.turn_id}/events", headers=headers).get_data())
        assert (again.wrong, again.ending) == ([], "turn.completed")
        assert again.text == "1 messages; last: hello"


def test_what_is_refused_leaves_the_conversation_in_its_bundle(
    chat: Callable[..., TestResponse], chat_app: Flask, upstream: Upstream, user: Account
) -> None:
    def status() -> str:
        shown = chat_app.test_client().get(f"/api/conversations/{conversation}", headers=user.headers)
        return str(shown.get_json()["status"])

    overtaken, last = {"Idempotency-Key": "overtaken"}, {"Idempotency-Key": "last"}
    upstream.then(scripts.refusal(500), scripts.refusal(500))
    conversation = chat("first", headers=overtaken).get_json()["conversation_id"]
    assert chat("second", headers=last, conversation_id=conversation).status_code == 502
    with chat_app.app_context():
        put_away(user.id, conversation)
    assert chat("first", headers=overtaken).get_json()["code"] == "conversation_moved_on"
    assert status() == "archived"
    assert chat("second", headers=last, conversation_id=conversation).status_code == 200
    assert status() == "active"


def test_what_is_archived_in_the_moment_before_it_runs_again_is_brought_back_first(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: Account, rows: Rows
) -> None:
    chat_app, headers = make_chat_app(), {**user.headers, "Idempotency-Key": "in between"}
    archived: list[str] = []

    def ask() -> TestResponse:
        return chat_app.test_client().post("/api/chat", json={"message": "hello"}, headers=headers)

    upstream.then(scripts.cut(after=2), scripts.echo())
    conversation = ask().get_json()["conversation_id"]
    with chat_app.app_context():
        own = db.engine

    @event.listens_for(own, "before_cursor_execute")
    def in_between(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "turns.begin_again" in statement and not archived:
            archived.append(conversation)
            put_away(user.id, conversation)

    answer = ask()
    assert (answer.status_code, archived) == (200, [conversation]), answer.json
    assert rows("SELECT storage FROM conversations WHERE id = :c", c=conversation)[0].storage == "live"
    stored = rows("SELECT content FROM messages WHERE conversation_id = :c ORDER BY position", c=conversation)
    assert [row.content for row in stored] == ["hello", "word0 word1 ", "1 messages; last: hello"]
