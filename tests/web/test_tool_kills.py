"""SIGKILL in the middle of a turn with tools: a call is made once, and the conversation continues."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.turns.call_ledger import OUTCOME_UNKNOWN
from app.turns.call_runner import UNKNOWN
from app.turns.tool_rounds import DECLINED
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.chat_rules import violation
from tests.fakes.upstream import Upstream
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = pytest.mark.process


class ToolServer(WebServer):
    wsgi = "tests.web.tools_app:flask_app"


@pytest.fixture
def serve(flask_app: Flask, database_url: str, tmp_path: Path) -> Callable[[Upstream], ToolServer]:
    """Return a function that starts a web server with one worker and the tool `note`."""

    def start(upstream: Upstream) -> ToolServer:
        provider = {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": upstream.base_url, "CHAT_STALE_SECONDS": "3"}
        return ToolServer(
            tmp_path, DATABASE_URL=database_url, WEB_WORKERS="1", NOTES=str(tmp_path / "notes"), **provider
        )

    return start


def stored(engine: Engine, account: LoggedInUser) -> list[Any]:
    query = "SELECT role, content, tool_calls, tool_call_id FROM messages WHERE user_id = :u ORDER BY position"
    with engine.connect() as connection:
        return list(connection.execute(text(query), {"u": account.id}))


@pytest.mark.parametrize("killed", ["in the call", "after the call"])
def test_killed_turn_is_retried_without_repeating_its_call(
    killed: str, serve: Callable[[Upstream], ToolServer], engine: Engine, user: LoggedInUser, tmp_path: Path
) -> None:
    notes, release = tmp_path / "notes", tmp_path / "notes.release"
    if killed == "after the call":
        release.touch()
    headers = {**user.headers, "Idempotency-Key": "once", "Accept": "text/event-stream"}
    body = {"message": "take a note"}
    with Upstream() as upstream, serve(upstream) as server:
        upstream.queue_scripts(scripts.calls(("a", "note", '{"text": "milk", "n": 1}')))
        upstream.script = scripts.hang()
        reader = server.post("/api/chat", body, headers, preload_content=False)
        if killed == "after the call":
            upstream.wait_for(lambda: len(upstream.requests) == 2)
        else:
            wait_until(notes.exists, "the call of the tool")
        _kill_worker(server)
        reader.close()
        release.touch()
        server.wait_for_health()

        upstream.script = scripts.words()
        upstream.queue_scripts(scripts.calls(("b", "note", '{"n": 1, "text": "milk"}')), scripts.words(2))

        def retried() -> bool:
            response = server.post("/api/chat", body, {**headers, "Accept": "application/json"})
            assert response.status in (200, 503), response.data
            return response.status == 200

        wait_until(retried, "the answer of the retry")
        assert len(notes.read_text().splitlines()) == 1
        sent = upstream.requests[-1].body["messages"]
        assert sent[-1]["content"] == ("noted milk" if killed == "after the call" else OUTCOME_UNKNOWN)
        conversation = _conversation(engine, user)
        follow_up = {"message": "go on", "conversation_id": conversation}
        assert server.post("/api/chat", follow_up, user.headers).status == 200
        assert violation(upstream.requests[-1].body["messages"]) is None
    messages = stored(engine, user)
    called = [call["id"] for message in messages for call in message.tool_calls or ()]
    assert sorted(called) == sorted(message.tool_call_id for message in messages if message.role == "tool")
    assert messages[-1].content == "".join(f"word{number} " for number in range(5))


@pytest.mark.parametrize("killed", ["in the call", "after the call"])
@pytest.mark.parametrize("then", ["approves again", "sends a message"])
def test_killed_approval_makes_its_call_once_and_the_conversation_goes_on(
    killed: str,
    then: str,
    serve: Callable[[Upstream], ToolServer],
    engine: Engine,
    user: LoggedInUser,
    tmp_path: Path,
) -> None:
    notes, release = tmp_path / "notes", tmp_path / "notes.release"
    if killed == "after the call":
        release.touch()
    with Upstream() as upstream, serve(upstream) as server:
        upstream.queue_scripts(scripts.calls(("a", "send", '{"text": "milk"}'), ("b", "send", '{"text": "bread"}')))
        pending = server.post("/api/chat", {"message": "send a note"}, user.headers).json()
        assert pending["turn"]["finish_reason"] == "tool_approval"
        path, decision = f"/api/turns/{pending['turn']['id']}/tool_approvals", {"approved": ["a"]}
        upstream.script = scripts.hang()
        reader = server.post(path, decision, {**user.headers, "Accept": "text/event-stream"}, preload_content=False)
        if killed == "after the call":
            upstream.wait_for(lambda: len(upstream.requests) == 2)
        else:
            wait_until(notes.exists, "the call of the tool")
        _kill_worker(server)
        reader.close()
        release.touch()
        server.wait_for_health()

        upstream.script = scripts.words()
        conversation = pending["conversation"]["id"]
        message = {"message": "go on", "conversation_id": conversation}

        def goes_on() -> bool:
            """Return whether the conversation continues, which it does once the killed attempt is stale."""
            again = then == "approves again"
            to, body = (path, decision) if again else ("/api/chat", message)
            response = server.post(to, body, user.headers)
            assert response.status in (200, 409, 503), response.data
            assert response.status != 409 or response.json()["code"] == "conversation_busy", response.data
            return response.status == 200

        wait_until(goes_on, "the answer")
        assert [line.split()[0] for line in notes.read_text().splitlines()] == ["milk"]
        sent = upstream.requests[-1].body["messages"]
        assert violation(sent) is None
        results = {message["tool_call_id"]: message["content"] for message in sent if message["role"] == "tool"}
        assert results.keys() == {"a", "b"}
        # It was made, so the model must not read that it was not. Of the other one, the killed process left no record.
        assert results["a"] in {"noted milk", OUTCOME_UNKNOWN, UNKNOWN}
        assert results["b"] in {DECLINED, UNKNOWN}
        if then == "approves again":
            assert results["a"] == ("noted milk" if killed == "after the call" else OUTCOME_UNKNOWN)
        assert server.post("/api/chat", message, user.headers).status == 200
        assert violation(upstream.requests[-1].body["messages"]) is None
    assert {message.tool_call_id for message in stored(engine, user) if message.role == "tool"} == {"a", "b"}


def _kill_worker(server: ToolServer) -> None:
    [worker] = server.workers()
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: worker.pid not in [other.pid for other in server.workers()], "the end of the worker")


def _conversation(engine: Engine, account: LoggedInUser) -> str:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT id FROM conversations WHERE user_id = :u"), {"u": account.id})
        return str(found.scalar_one())
