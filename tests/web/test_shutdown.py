"""SIGTERM during answers: nothing is lost, read or unread, and the server does not stay for ever."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.web.server import WebServer

pytestmark = pytest.mark.process


@pytest.fixture
def serve(flask_app: Flask, database_url: str, tmp_path: Path) -> Callable[..., WebServer]:
    """A function that starts a web server of one worker, answered by the upstream given."""

    def serve(upstream: Upstream, **settings: str) -> WebServer:
        provider = {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": upstream.base_url}
        return WebServer(tmp_path, DATABASE_URL=database_url, WEB_WORKERS="1", **provider, **settings)

    return serve


def kept(engine: Engine, account: Account) -> list[Any]:
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


def test_a_turn_that_nobody_reads_any_more_is_finished_first(
    serve: Callable[..., WebServer], engine: Engine, user: Account
) -> None:
    with Upstream(scripts.words(30, pause=0.1)) as upstream, serve(upstream) as server:
        headers = {**user.headers, "Accept": "text/event-stream"}
        reader = server.post("/api/chat", {"message": "hello"}, headers, preload_content=False)
        assert b"turn.started" in reader.read(200)
        reader.close()  # the reader leaves in the middle
        assert server.stop() == 0
    [turn] = kept(engine, user)
    assert turn.status == "completed"
    assert turn.content == "".join(f"word{number} " for number in range(30))


def test_requests_under_way_get_their_answers(
    serve: Callable[..., WebServer], engine: Engine, make_user: Callable[..., Account]
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
    assert [row.status for account in accounts for row in kept(engine, account)] == ["completed"] * 5


def test_what_does_not_end_in_time_is_interrupted_and_keeps_what_there_is(
    serve: Callable[..., WebServer], engine: Engine, user: Account
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
    [turn] = kept(engine, user)
    assert (turn.status, turn.content, turn.metadata) == ("interrupted", "word0 ", {"partial": "interrupted"})


def test_a_worker_that_is_replaced_finishes_its_turns(
    serve: Callable[..., WebServer], engine: Engine, user: Account
) -> None:
    with Upstream(scripts.words(20, pause=0.1)) as upstream, serve(upstream, WEB_MAX_REQUESTS="40") as server:
        [first] = server.workers()
        headers = {**user.headers, "Accept": "text/event-stream"}
        reader = server.post("/api/chat", {"message": "hello"}, headers, preload_content=False)
        reader.read(200)
        reader.close()
        for _ in range(60):  # more than it may answer, also with the jitter
            server.http.request("GET", f"{server.url}/health/live")
            if not first.is_running():
                break
        first.wait(30)
        server.wait_until_ready()
        assert [worker.pid for worker in server.workers()] != [first.pid]
    [turn] = kept(engine, user)
    assert turn.status == "completed"
