"""`POST /api/turns/{id}/cancel`, on the process that runs the turn or another one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from tests.api.conftest import events_of
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


def running_turn(rows: Rows, account: LoggedInUser) -> str:
    [turn] = rows("SELECT id FROM turns WHERE user_id = :u AND status = 'running'", u=account.id)
    return str(turn.id)


def test_cancelled_turn_keeps_partial_answer_and_releases_conversation(
    chat: Chat, chat_app: Flask, upstream: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    conversation = chat("first").get_json()["conversation"]["id"]
    upstream.script = scripts.words(200, pause=0.05)
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(lambda: events_of(chat("long", conversation_id=conversation, stream=True)))
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        before = upstream.disconnects
        cancel = chat_app.test_client().post(f"/api/turns/{running_turn(rows, user)}/cancel", headers=user.headers)
        assert cancel.status_code == 202
        events = pending.result(timeout=20)
    upstream.wait_for(lambda: upstream.disconnects > before)
    assert events[-1][1] == "turn.cancelled"
    upstream.script = scripts.words(1)
    assert chat("next", conversation_id=conversation).status_code == 200
    messages = rows("SELECT metadata FROM messages WHERE user_id = :u AND position = 4", u=user.id)
    assert [row.metadata for row in messages] in ([{"partial": "cancelled"}], [{}])  # [{}] if no delta had come yet


def test_cancel_on_other_process_closes_provider_connection(
    chat: Chat, make_chat_app: Callable[..., Flask], upstream: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    """The process that runs the turn reads the request with its next heartbeat."""
    upstream.script = scripts.words(1, first=8)
    other_client = make_chat_app().test_client()
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(chat, "hello")
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        before = upstream.disconnects
        turn = running_turn(rows, user)
        assert other_client.post(f"/api/turns/{turn}/cancel", headers=user.headers).status_code == 202
        upstream.wait_for(lambda: upstream.disconnects > before)
        body = pending.result(timeout=20).get_json()
    assert body["turn"]["status"] == "cancelled"
    assert body["message"] is None


def test_cancel_of_ended_turn_changes_nothing(chat: Chat, chat_app: Flask, user: LoggedInUser) -> None:
    turn = chat("hello").get_json()["turn"]
    response = chat_app.test_client().post(f"/api/turns/{turn['id']}/cancel", headers=user.headers)
    assert response.status_code == 202
    assert response.get_json()["status"] == "completed"


def test_turn_of_other_user_returns_404(
    chat: Chat, chat_app: Flask, upstream: Upstream, other_user: LoggedInUser, user: LoggedInUser, rows: Rows
) -> None:
    upstream.script = scripts.words(10, pause=0.1)
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(chat, "hello")
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        turn = running_turn(rows, user)
        for method, path in (("POST", "cancel"), ("GET", "events"), ("GET", "")):
            response = chat_app.test_client().open(
                f"/api/turns/{turn}/{path}".rstrip("/"), method=method, headers=other_user.headers
            )
            assert response.status_code == 404, (method, path)
        assert pending.result(timeout=20).get_json()["turn"]["status"] == "completed"
