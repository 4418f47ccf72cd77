"""Every turn that began comes to an end that is stored, told and forgotten."""

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, event, text
from werkzeug.test import TestResponse

from app.extensions import db
from app.services.container import services
from app.services.running_turn import RunningTurn
from tests.api.conftest import events_of
from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.faults.rig import until

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


def named(finish: str, model: str) -> Script:
    """An answer that ends for the reason `finish`, from a model that calls itself `model`."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"content": "paid for"}, model=model))
        await exchange.event(scripts.chunk({}, finish, model=model))
        await exchange.send(scripts.DONE)
        await exchange.end()

    return script


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("finish", "model"), [("f" * 99, "model"), ("stop", "m" * 254), ("f" * 500, "m" * 500)])
def test_whatever_a_provider_calls_itself_its_answer_is_kept(
    chat: Chat, upstream: Upstream, finish: str, model: str
) -> None:
    upstream.script = named(finish, model)
    answer = chat("hello")
    assert answer.status_code == 200, answer.json
    assert answer.get_json()["message"]["content"] == "paid for"


@pytest.mark.timeout(30)
def test_no_finished_turn_stays_in_memory(chat: Chat, upstream: Upstream, chat_app: Flask) -> None:
    for number in range(10):
        chat(f"message {number}")
        events_of(chat(f"message {number}", stream=True))
    upstream.script = scripts.refusal(500)
    chat("fails")
    response = chat("left", stream=True)
    response.close()
    upstream.wait_for(lambda: upstream.open_streams == 0)
    with chat_app.app_context():
        engine = services().turns
    until(lambda: engine.running == 0, "the end of every turn")
    del response
    gc.collect()
    left = [thing for thing in gc.get_objects() if isinstance(thing, RunningTurn)]
    assert left == []


def test_the_heartbeat_survives_any_error(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: Account, rows: Rows
) -> None:
    """Were its thread to die, each later turn of the process would go stale."""
    chat_app = make_chat_app()
    with chat_app.app_context():
        engine = db.engine
    failed = threading.Event()

    @event.listens_for(engine, "before_cursor_execute")
    def fail_once(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "turns.heartbeat" in statement and not failed.is_set():
            failed.set()
            raise RuntimeError("nobody foresaw this")

    def say(message: str) -> TestResponse:
        return chat_app.test_client().post("/api/chat", json={"message": message}, headers=user.headers)

    upstream.script = scripts.words(3, pause=0.7)
    assert say("the heartbeat fails").status_code == 200
    assert failed.is_set()
    assert say("the next one").status_code == 200
    [row] = rows(
        "SELECT heartbeat_at > started_at AS beaten FROM turns WHERE user_id = :u ORDER BY started_at DESC LIMIT 1",
        u=user.id,
    )
    assert row.beaten


def test_a_thread_that_cannot_start_leaves_no_turn_running(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: Account, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat_app = make_chat_app()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "turn":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    answer = chat_app.test_client().post("/api/chat", json={"message": "hello"}, headers=user.headers)
    assert answer.status_code >= 500
    with chat_app.app_context():
        assert services().turns.running == 0


@pytest.mark.timeout(30)  # less than an answer waits for a database that is away
def test_an_answer_that_can_never_be_stored_is_not_waited_for(chat: Chat, user: Account, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE messages ADD CONSTRAINT never CHECK (role <> 'assistant') NOT VALID"))
    try:
        answer = chat("hello")
    finally:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE messages DROP CONSTRAINT never"))
    assert answer.status_code == 503
    assert "could not be stored" in answer.get_json()["detail"]
