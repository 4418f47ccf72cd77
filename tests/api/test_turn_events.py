"""A stream outlives its reader: whoever comes back, to whichever process, hears each event once."""

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.services.telling import retell
from tests.api.conftest import events_of
from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]
Event = tuple[int, str, Any]


@pytest.fixture
def events(user: Account) -> Callable[..., list[Event]]:
    """Read a turn's events from an application, to their end, beyond the event `after`."""

    def events(flask_app: Flask, turn: Any, after: int | None = None, account: Account = user) -> list[Event]:
        known = {} if after is None else {"Last-Event-ID": str(after)}
        response = flask_app.test_client().get(f"/api/turns/{turn}/events", headers={**account.headers, **known})
        assert response.status_code == 200, response.get_data()
        assert response.content_type.startswith("text/event-stream")
        return events_of(response)

    return events


def said(told: list[Event]) -> str:
    return "".join(data["text"] for _, kind, data in told if kind == "message.delta")


def heard_until(response: TestResponse, enough: Callable[[list[Event]], bool]) -> list[Event]:
    """Read events until there are enough, then leave."""
    heard = b""
    for piece in response.response:
        heard += piece
        told = events_of(type("Heard", (), {"get_data": lambda _, heard=heard: heard})())  # type: ignore[arg-type]
        if enough(told):
            break
    response.close()
    return told


WORDS = "".join(f"word{number} " for number in range(20))


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_reader_who_left_goes_on_where_he_was(
    chat: Chat,
    chat_app: Flask,
    make_chat_app: Callable[..., Flask],
    events: Callable[..., list[Event]],
    upstream: Upstream,
    where: str,
) -> None:
    upstream.script = scripts.words(20, pause=0.1)
    place = chat_app if where == "here" else make_chat_app()
    first = heard_until(chat("hello", stream=True), lambda told: len(told) >= 6)
    turn = first[0][2]["turn"]["id"]
    rest = events(place, turn, after=first[-1][0])
    numbers = [number for number, _, _ in first + rest]
    assert numbers == list(range(1, len(numbers) + 1))
    assert said(first + rest) == WORDS
    assert [kind for _, kind, _ in rest[-2:]] == ["message.completed", "turn.completed"]


def test_many_readers_on_another_process_hear_the_same_live(
    chat: Chat,
    chat_app: Flask,
    make_chat_app: Callable[..., Flask],
    events: Callable[..., list[Event]],
    upstream: Upstream,
    user: Account,
    rows: Rows,
) -> None:
    """The turn was begun as JSON: nothing is stored until somebody elsewhere wants it."""
    upstream.script = scripts.words(30, pause=0.1)
    elsewhere = make_chat_app()
    with ThreadPoolExecutor(10) as threads:
        pending = threads.submit(chat, "hello")
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        [turn] = rows("SELECT id FROM turns WHERE user_id = :u", u=user.id)
        readers = [threads.submit(events, elsewhere, turn.id) for _ in range(8)]
        heard = [reader.result(timeout=30) for reader in readers]
        answer = pending.result().get_json()["message"]["content"]
    assert all(told == heard[0] for told in heard)
    assert said(heard[0]) == answer
    assert len(heard[0]) == 33
    assert [number for number, _, _ in heard[0]] == list(range(1, 34))


def test_an_ended_turn_is_told_again_from_any_place(
    chat: Chat, make_chat_app: Callable[..., Flask], events: Callable[..., list[Event]], upstream: Upstream
) -> None:
    upstream.script = scripts.words(5, pause=0.1)
    live = events_of(chat("hello", stream=True))
    turn, place = live[0][2]["turn"]["id"], make_chat_app()
    again = events(place, turn)
    assert [(number, kind) for number, kind, _ in again] == [(number, kind) for number, kind, _ in live]
    assert again[1:] == live[1:]
    assert events(place, turn, after=3) == live[3:]
    assert events(place, turn, after=live[-1][0]) == []


def test_a_turn_that_nobody_followed_is_told_from_its_messages(
    chat: Chat, chat_app: Flask, events: Callable[..., list[Event]], user: Account, rows: Rows
) -> None:
    body = chat("hello").get_json()
    assert rows("SELECT 1 FROM turn_events WHERE user_id = :u", u=user.id) == []
    told = events(chat_app, body["turn"]["id"])
    assert [kind for _, kind, _ in told] == ["turn.started", "message.delta", "message.completed", "turn.completed"]
    assert said(told) == body["message"]["content"]
    assert told[-1][2]["turn"]["usage"] == body["usage"]


def test_a_turn_whose_process_died_ends_for_its_followers(
    make_chat_app: Callable[..., Flask],
    events: Callable[..., list[Event]],
    chat: Chat,
    upstream: Upstream,
    user: Account,
    engine: Engine,
    rows: Rows,
) -> None:
    upstream.script = scripts.raw(b'data: {"choices":[{"index":0,"delta":{"content":"half"}}],"model":"m"}\n\n')
    key = {"Idempotency-Key": "once"}
    told = events_of(chat("hello", stream=True, headers=key))
    turn = told[0][2]["turn"]["id"]
    with engine.begin() as connection:  # what a kill -9 leaves behind
        connection.execute(
            text("""
            WITH t AS (UPDATE turns SET status = 'running', finished_at = NULL, heartbeat_at = now() - interval '1 min'
                        WHERE user_id = :u RETURNING user_id, conversation_id, attempt)
            UPDATE conversations SET running_attempt = t.attempt FROM t
             WHERE conversations.user_id = t.user_id AND id = t.conversation_id"""),
            {"u": user.id},
        )
    ended = events(make_chat_app(), turn, after=told[-1][0])
    assert [kind for _, kind, _ in ended][-1] == "turn.interrupted"
    assert ended[-1][2]["turn"]["error"]["code"] == "interrupted"

    upstream.script = scripts.words(2)
    again = events_of(chat("hello", stream=True, headers=key))
    assert again[0][1] == "turn.restarted"
    assert again[0][0] > ended[-1][0]
    assert said(again) == "word0 word1 "
    assert rows("SELECT status FROM turns WHERE user_id = :u", u=user.id)[0].status == "completed"


def test_somebody_elses_turn_is_not_there(chat: Chat, chat_app: Flask, other_user: Account) -> None:
    turn = chat("hello").get_json()["turn"]["id"]
    response = chat_app.test_client().get(f"/api/turns/{turn}/events", headers=other_user.headers)
    assert response.status_code == 404


@pytest.mark.parametrize("sent", ["-1", "x", "1.5", "9" * 11, "١"])
def test_an_id_that_is_none_is_refused(chat: Chat, chat_app: Flask, user: Account, sent: str) -> None:
    turn = chat("hello").get_json()["turn"]["id"]
    headers = {**user.headers, "Last-Event-ID": sent.encode().decode("latin-1")}
    response = chat_app.test_client().get(f"/api/turns/{turn}/events", headers=headers)
    assert response.status_code == 400


def test_a_very_long_stream_is_told_again_without_being_held_at_once(
    chat: Chat, chat_app: Flask, engine: Engine, user: Account, events: Callable[..., list[Event]], rows: Rows
) -> None:
    """120 batches of 500 pieces, as a model that speaks in single characters leaves them."""
    turn = chat("hello").get_json()["turn"]["id"]
    with engine.begin() as connection:
        connection.execute(
            text("""
            INSERT INTO turn_events (user_id, turn_id, sequence, attempt, events)
            SELECT t.user_id, t.id, batch * 500 + 1, t.attempt,
                   (SELECT json_agg(json_build_array(number, 'message.delta', json_build_object('text', 'x')))
                      FROM generate_series(batch * 500 - 498, batch * 500 + 1) AS number)
              FROM turns t, generate_series(1, 120) AS batch WHERE t.user_id = :u AND t.id = :t"""),
            {"u": user.id, "t": turn},
        )
        connection.execute(text("UPDATE turns SET last_sequence = 60004 WHERE user_id = :u"), {"u": user.id})
        row = connection.execute(text("SELECT * FROM turns WHERE user_id = :u AND id = :t"), {"u": user.id, "t": turn})
        stored = row.one()
    tracemalloc.start()
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            told = retell(connection, user.id, stored)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16_000_000  # bytes; the events alone would be 25 MB as objects
    heard = [event.sequence for batch in told.follow(1) for event in batch]
    assert heard == [*range(2, 60_002), 60_003, 60_004]
