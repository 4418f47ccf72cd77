"""`GET /api/turns/{id}/events`: a client may resume on any process and receives each event once."""

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.database import autocommit
from app.turns.replay import replay
from tests.api.conftest import events_of, parse_events
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]
Event = tuple[int, str, Any]


@pytest.fixture
def events(user: LoggedInUser) -> Callable[..., list[Event]]:
    """Return a function that reads a turn's events after the sequence `after`, to the end, from an application."""

    def events(flask_app: Flask, turn: Any, after: int | None = None, account: LoggedInUser = user) -> list[Event]:
        resume = {} if after is None else {"Last-Event-ID": str(after)}
        response = flask_app.test_client().get(f"/api/turns/{turn}/events", headers={**account.headers, **resume})
        assert response.status_code == 200, response.get_data()
        assert response.content_type.startswith("text/event-stream")
        return events_of(response)

    return events


def answer_text(events: list[Event]) -> str:
    return "".join(data["text"] for _, kind, data in events if kind == "message.delta")


def read_some(response: TestResponse, count: int) -> list[Event]:
    """Read at least `count` events, then disconnect."""
    body, events = b"", list[Event]()
    for chunk in response.response:
        body += chunk
        events = parse_events(body)
        if len(events) >= count:
            break
    response.close()
    return events


WORDS = "".join(f"word{number} " for number in range(20))


@pytest.mark.parametrize("process", ["same", "other"])
def test_stream_resumes_after_last_event_id(
    chat: Chat,
    chat_app: Flask,
    make_chat_app: Callable[..., Flask],
    events: Callable[..., list[Event]],
    upstream: Upstream,
    process: str,
) -> None:
    upstream.script = scripts.words(20, pause=0.1)
    resumed_app = chat_app if process == "same" else make_chat_app()
    first = read_some(chat("hello", stream=True), 6)
    turn = first[0][2]["turn"]["id"]
    rest = events(resumed_app, turn, after=first[-1][0])
    sequences = [sequence for sequence, _, _ in first + rest]
    assert sequences == list(range(1, len(sequences) + 1))
    assert answer_text(first + rest) == WORDS
    assert [kind for _, kind, _ in rest[-2:]] == ["message.completed", "turn.completed"]


def test_readers_on_other_process_receive_all_events_live(
    chat: Chat,
    chat_app: Flask,
    make_chat_app: Callable[..., Flask],
    events: Callable[..., list[Event]],
    upstream: Upstream,
    user: LoggedInUser,
    rows: Rows,
) -> None:
    """The turn began as JSON, so no event is stored until a reader on another process requests it."""
    upstream.script = scripts.words(30, pause=0.1)
    other_app = make_chat_app()
    with ThreadPoolExecutor(10) as threads:
        pending = threads.submit(chat, "hello")
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        [turn] = rows("SELECT id FROM turns WHERE user_id = :u", u=user.id)
        readers = [threads.submit(events, other_app, turn.id) for _ in range(8)]
        received = [reader.result(timeout=30) for reader in readers]
        answer = pending.result().get_json()["message"]["content"]
    assert all(stream == received[0] for stream in received)
    assert answer_text(received[0]) == answer
    assert [sequence for sequence, _, _ in received[0]] == list(range(1, 34))


def test_ended_stream_is_replayed_from_any_event(
    chat: Chat, make_chat_app: Callable[..., Flask], events: Callable[..., list[Event]], upstream: Upstream
) -> None:
    upstream.script = scripts.words(5, pause=0.1)
    live = events_of(chat("hello", stream=True))
    turn, other_app = live[0][2]["turn"]["id"], make_chat_app()
    replayed = events(other_app, turn)
    assert [(sequence, kind) for sequence, kind, _ in replayed] == [(sequence, kind) for sequence, kind, _ in live]
    assert replayed[1:] == live[1:]
    assert events(other_app, turn, after=3) == live[3:]


def test_turn_without_stored_events_is_replayed_from_messages(
    chat: Chat, chat_app: Flask, events: Callable[..., list[Event]], user: LoggedInUser, rows: Rows
) -> None:
    body = chat("hello").get_json()
    assert rows("SELECT 1 FROM turn_events WHERE user_id = :u", u=user.id) == []
    replayed = events(chat_app, body["turn"]["id"])
    assert [kind for _, kind, _ in replayed] == ["turn.started", "message.delta", "message.completed", "turn.completed"]
    assert answer_text(replayed) == body["message"]["content"]
    assert replayed[-1][2]["turn"]["usage"] == body["usage"]


def test_stream_of_dead_process_ends_as_interrupted(
    make_chat_app: Callable[..., Flask],
    events: Callable[..., list[Event]],
    chat: Chat,
    upstream: Upstream,
    user: LoggedInUser,
    engine: Engine,
    rows: Rows,
) -> None:
    upstream.script = scripts.raw(b'data: {"choices":[{"index":0,"delta":{"content":"half"}}],"model":"m"}\n\n')
    key = {"Idempotency-Key": "once"}
    first = events_of(chat("hello", stream=True, headers=key))
    turn = first[0][2]["turn"]["id"]
    with engine.begin() as connection:  # the state after the process was killed
        connection.execute(
            text("""
            WITH t AS (UPDATE turns SET status = 'running', finished_at = NULL, answer_position = NULL,
                               heartbeat_at = now() - interval '1 min'
                        WHERE user_id = :u RETURNING user_id, conversation_id, attempt),
            m AS (DELETE FROM messages WHERE user_id = :u AND role = 'assistant')
            UPDATE conversations SET running_attempt = t.attempt, next_position = 2, message_count = 1 FROM t
             WHERE conversations.user_id = t.user_id AND id = t.conversation_id"""),
            {"u": user.id},
        )
    ended = events(make_chat_app(), turn, after=first[-1][0])
    kinds = ["turn.restarted", "message.delta", "message.completed", "turn.interrupted"]
    assert [kind for _, kind, _ in ended] == kinds
    assert answer_text(ended) == "half"
    assert ended[2][2]["message"]["metadata"] == {"partial": "interrupted"}
    assert ended[-1][2]["turn"]["error"]["code"] == "interrupted"

    upstream.script = scripts.words(2)
    retried = events_of(chat("hello", stream=True, headers=key))
    assert retried[0][1] == "turn.restarted"
    assert retried[0][0] > ended[-1][0]
    assert answer_text(retried) == "word0 word1 "
    assert rows("SELECT status FROM turns WHERE user_id = :u", u=user.id)[0].status == "completed"


def test_events_of_other_users_turn_return_404(chat: Chat, chat_app: Flask, other_user: LoggedInUser) -> None:
    turn = chat("hello").get_json()["turn"]["id"]
    response = chat_app.test_client().get(f"/api/turns/{turn}/events", headers=other_user.headers)
    assert response.status_code == 404


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "9" * 11, "١"])
def test_invalid_last_event_id_returns_400(chat: Chat, chat_app: Flask, user: LoggedInUser, value: str) -> None:
    turn = chat("hello").get_json()["turn"]["id"]
    headers = {**user.headers, "Last-Event-ID": value.encode().decode("latin-1")}
    response = chat_app.test_client().get(f"/api/turns/{turn}/events", headers=headers)
    assert response.status_code == 400


def test_replay_of_very_long_stream_has_bounded_memory(
    chat: Chat, chat_app: Flask, engine: Engine, user: LoggedInUser, events: Callable[..., list[Event]], rows: Rows
) -> None:
    """120 batches of 500 deltas with one character each, after the first event."""
    turn = chat("hello").get_json()["turn"]["id"]
    with engine.begin() as connection:
        connection.execute(
            text("""
            INSERT INTO turn_events (user_id, turn_id, sequence, attempt, events)
            SELECT t.user_id, t.id, batch * 500 + 1, t.attempt,
                   (SELECT json_agg(json_build_array(number, 'message.delta', json_build_object('text', 'x')))
                      FROM generate_series(batch * 500 - 498, batch * 500 + 1) AS number)
              FROM turns t, generate_series(1, 120) AS batch WHERE t.user_id = :u AND t.id = :t
            UNION ALL
            SELECT t.user_id, t.id, 1, t.attempt, '[[1, "turn.started", {}]]'
              FROM turns t WHERE t.user_id = :u AND t.id = :t"""),
            {"u": user.id, "t": turn},
        )
        connection.execute(text("UPDATE turns SET last_sequence = 60003 WHERE user_id = :u"), {"u": user.id})
        row = connection.execute(text("SELECT * FROM turns WHERE user_id = :u AND id = :t"), {"u": user.id, "t": turn})
        turn_row = row.one()
    tracemalloc.start()
    try:
        with autocommit(engine) as connection:
            subscription = replay(connection, user.id, turn_row)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16_000_000  # bytes; as objects, the events alone would be 25 MB
    sequences = [event.sequence for batch in subscription.events(1) for event in batch]
    assert sequences == list(range(1, 60_004))
