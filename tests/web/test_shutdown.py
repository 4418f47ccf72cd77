"""SIGTERM during running turns: turns are finished or interrupted in time, and nothing is lost."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.web.server import WebServer

pytestmark = pytest.mark.process


@pytest.fixture
def serve(flask_app: Flask, database_url: str, tmp_path: Path) -> Callable[..., WebServer]:
    """Return a function that starts a web server with one worker and the given provider."""

    def start(upstream: Upstream, **settings: str) -> WebServer:
        provider = {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": upstream.base_url}
        return WebServer(tmp_path, DATABASE_URL=database_url, WEB_WORKERS="1", **provider, **settings)

    return start


def stored_turns(engine: Engine, account: LoggedInUser) -> list[Any]:
    with engine.connect() as connection:
        return list(
            connection.execute(
                text("""
                SELECT t.status, m.content, m.metadata FROM turns t LEFT JOIN messages m
                    ON m.user_id = t.user_id AND m.turn_id = t.id AND m.role = 'assistant'
                 WHERE t.user_id = :u ORDER BY t.id"""),
                {"u": account.id},
            )
        )


def test_stop_finishes_turn_whose_reader_has_disconnected(
    serve: Callable[..., WebServer], engine: Engine, user: LoggedInUser
) -> None:
    with Upstream(scripts.words(30, pause=0.1)) as upstream, serve(upstream) as server:
        headers = {**user.headers, "Accept": "text/event-stream"}
        reader = server.post("/api/chat", {"message": "hello"}, headers, preload_content=False)
        assert b"turn.started" in reader.read(200)
        reader.close()
        assert server.stop() == 0
    [turn] = stored_turns(engine, user)
    assert turn.status == "completed"
    assert turn.content == "".join(f"word{number} " for number in range(30))


def test_stop_answers_running_requests(
    serve: Callable[..., WebServer], engine: Engine, make_user: Callable[..., LoggedInUser]
) -> None:
    accounts = [make_user() for _ in range(5)]
    with (
        Upstream(scripts.words(20, pause=0.1)) as upstream,
        serve(upstream) as server,
        ThreadPoolExecutor(5) as threads,
    ):
        pending = [
            threads.submit(server.post, "/api/chat", {"message": "hello"}, account.headers) for account in accounts
        ]
        upstream.wait_for(lambda: upstream.open_streams >= 5)
        assert server.stop() == 0
        assert [future.result().status for future in pending] == [200] * 5
    assert [row.status for account in accounts for row in stored_turns(engine, account)] == ["completed"] * 5


def test_turn_longer_than_the_grace_period_is_interrupted_and_keeps_its_text(
    serve: Callable[..., WebServer], engine: Engine, user: LoggedInUser
) -> None:
    with Upstream(scripts.words(3, pause=60)) as upstream, serve(upstream, WEB_GRACE_SECONDS="8") as server:
        with ThreadPoolExecutor(1) as threads:
            pending = threads.submit(server.post, "/api/chat", {"message": "hello"}, user.headers)
            upstream.wait_for(lambda: upstream.open_streams >= 1)
            assert server.stop() == 0
            response = pending.result()
        assert "interrupting 1 turns" in server.log()
    assert response.status == 503
    assert response.json()["code"] == "interrupted"
    [turn] = stored_turns(engine, user)
    assert (turn.status, turn.content, turn.metadata) == ("interrupted", "word0 ", {"partial": "interrupted"})


def test_worker_that_is_replaced_finishes_its_turns(
    serve: Callable[..., WebServer], engine: Engine, user: LoggedInUser
) -> None:
    with Upstream(scripts.words(20, pause=0.1)) as upstream, serve(upstream, WEB_MAX_REQUESTS="40") as server:
        [first] = server.workers()
        headers = {**user.headers, "Accept": "text/event-stream"}
        reader = server.post("/api/chat", {"message": "hello"}, headers, preload_content=False)
        reader.read(200)
        reader.close()
        for _ in range(60):  # more than WEB_MAX_REQUESTS and its jitter
            server.http.request("GET", f"{server.url}/health/live")
            if not first.is_running():
                break
        first.wait(30)
        server.wait_for_health()
        assert [worker.pid for worker in server.workers()] != [first.pid]
    [turn] = stored_turns(engine, user)
    assert turn.status == "completed"
