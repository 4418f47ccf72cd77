"""Streams of turns with tools: events, replays, and readers in another process."""

from collections.abc import Callable
from typing import Any

from flask import Flask
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from tests.api.conftest import events_of, parse_events
from tests.api.tool_loop.conftest import ids_in
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.tools.fixed import Recorder

Chat = Callable[..., TestResponse]


def test_stream_and_its_replays_have_calls_and_results(
    chat: Chat, upstream: Upstream, tools: Recorder, chat_app: Flask, user: LoggedInUser, engine: Engine
) -> None:
    upstream.queue_scripts(
        scripts.calls(("a", "say", '{"text": "one"}'), text="Look: "),
        scripts.calls(("a", "say", '{"text": "two"}')),
        scripts.words(2),
    )
    response = chat("hello", stream=True)
    live = events_of(response)
    expected = [
        ("message.delta", "Look: "),
        ("tool.call", "a"),
        ("tool.result", "one"),
        ("tool.call", "a_2"),
        ("tool.result", "two"),
        ("message.delta", "word0 "),
        ("message.delta", "word1 "),
        ("message.completed", "word0 word1 "),
    ]
    assert live[0][1] == "turn.started"
    assert [_short(event) for event in live[1:-1]] == expected
    assert live[2][2] == {"id": "a", "name": "say", "arguments": '{"text":"one"}', "round": 1}
    assert live[3][2] == {"id": "a", "name": "say", "content": "one", "is_error": False, "round": 1}
    turn = live[0][2]["turn"]["id"]

    def replay(after: int) -> list[Any]:
        headers = {**user.headers, "Last-Event-ID": str(after)}
        return events_of(chat_app.test_client().get(f"/api/turns/{turn}/events", headers=headers))

    assert replay(0) == live
    assert replay(3) == live[3:]
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM turn_events WHERE user_id = %s", (user.id,))
    rebuilt = replay(0)
    merged = [*expected[:5], ("message.delta", "word0 word1 "), expected[-1]]
    assert [_short(event) for event in rebuilt[1:-1]] == merged
    assert rebuilt[-1] == live[-1]
    for after in range(2, 8):
        restarted = replay(after)
        assert restarted[0][1] == "turn.restarted"
        assert [_short(event) for event in restarted[1:-1]] == merged


def _short(event: tuple[int, str, Any]) -> tuple[str, str]:
    _, kind, data = event
    value = data.get("text") or data.get("content") or data.get("id") or data["message"]["content"]
    return kind, value


def test_replay_of_json_turn_has_calls_and_later_ids(
    chat: Chat, upstream: Upstream, tools: Recorder, chat_app: Flask, user: LoggedInUser
) -> None:
    upstream.queue_scripts(
        scripts.calls(("a", "say", '{"text": "one"}'), ("b", "say", '{"text": "two"}')), scripts.words(3)
    )
    turn = chat("hello").get_json()["turn"]["id"]
    events = events_of(chat_app.test_client().get(f"/api/turns/{turn}/events", headers=user.headers))
    kinds = [kind for _, kind, _ in events]
    assert kinds == [
        "turn.started",
        *["tool.call"] * 2,
        *["tool.result"] * 2,
        "message.delta",
        "message.completed",
        "turn.completed",
    ]
    sequences = [sequence for sequence, _, _ in events]
    assert sequences == sorted(set(sequences))


def test_stream_in_another_process_has_calls_and_results(
    chat: Chat,
    upstream: Upstream,
    tools: Recorder,
    make_chat_app: Callable[..., Flask],
    user: LoggedInUser,
) -> None:
    other_app = make_chat_app()
    upstream.queue_scripts(scripts.calls(("a", "say", '{"text": "one"}'), text="Look: "), scripts.words(30, pause=0.1))
    response = chat("hello", stream=True)
    stream = iter(response.response)
    seen = b""
    while b"tool.result" not in seen:
        seen += next(stream)
    turn, _ = ids_in(seen)
    elsewhere = events_of(other_app.test_client().get(f"/api/turns/{turn}/events", headers=user.headers))
    here = parse_events(seen + b"".join(stream))
    assert elsewhere == here
    assert [kind for _, kind, _ in elsewhere][1:4] == ["message.delta", "tool.call", "tool.result"]
