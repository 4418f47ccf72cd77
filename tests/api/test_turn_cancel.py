"""Cancelling: from the process that answers or any other, keeping what there is."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from tests.api.conftest import events_of
from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


def running_turn(rows: Rows, account: Account) -> str:
    [turn] = rows("SELECT id FROM turns WHERE user_id = :u AND status = 'running'", u=account.id)
    return str(turn.id)


def test_a_cancelled_turn_keeps_what_was_said_and_frees_the_conversation(
    chat: Chat, chat_app: Flask, upstream: Upstream, user: Account, rows: Rows
) -> None:
    conversation = chat("first").get_json()["conversation"]["id"]
    upstream.script = scripts.words(200, pause=0.05)
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(lambda: events_of(chat("long", conversation_id=conversation, stream=True)))
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        seen = upstream.disconnects
        cancel = chat_app.test_client().post(f"/api/turns/{running_turn(rows, user)}/cancel", headers=user.headers)
        assert cancel.status_code == 202
        events = pending.result(timeout=20)
    upstream.wait_for(lambda: upstream.disconnects > seen)
    assert events[-1][1] == "turn.cancelled"
    upstream.script = scripts.words(1)
    assert chat("next", conversation_id=conversation).status_code == 200
    kept = rows("SELECT metadata FROM messages WHERE user_id = :u AND position = 4", u=user.id)
    assert [row.metadata for row in kept] in ([{"partial": "cancelled"}], [{}])  # {} if nothing had been said yet


def test_a_silent_provider_is_hung_up_on_from_another_process(
    chat: Chat, make_chat_app: Callable[..., Flask], upstream: Upstream, user: Account, rows: Rows
) -> None:
    """The other application knows nothing of the turn; the tick of the one that answers reads the wish."""
    upstream.script = scripts.words(1, first=8)
    elsewhere = make_chat_app().test_client()
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(chat, "hello")
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        seen = upstream.disconnects
        turn = running_turn(rows, user)
        assert elsewhere.post(f"/api/turns/{turn}/cancel", headers=user.headers).status_code == 202
        upstream.wait_for(lambda: upstream.disconnects > seen)
        body = pending.result(timeout=20).get_json()
    assert body["turn"]["status"] == "cancelled"
    assert body["message"] is None


def test_cancelling_what_has_ended_changes_nothing(chat: Chat, chat_app: Flask, user: Account) -> None:
    turn = chat("hello").get_json()["turn"]
    response = chat_app.test_client().post(f"/api/turns/{turn['id']}/cancel", headers=user.headers)
    assert response.status_code == 202
    assert response.get_json()["status"] == "completed"


def test_nobody_cancels_or_hears_somebody_elses_turn(
    chat: Chat, chat_app: Flask, upstream: Upstream, other_user: Account, user: Account, rows: Rows
) -> None:
    upstream.script = scripts.words(10, pause=0.1)
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(chat, "hello")
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        turn = running_turn(rows, user)
        for method, path in (("POST", "cancel"), ("GET", "events"), ("GET", "")):
            foreign = chat_app.test_client().open(
                f"/api/turns/{turn}/{path}".rstrip("/"), method=method, headers=other_user.headers
            )
            assert foreign.status_code == 404, (method, path)
        assert pending.result(timeout=20).get_json()["turn"]["status"] == "completed"
