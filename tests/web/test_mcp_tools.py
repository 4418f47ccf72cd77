"""Tools of an MCP server, registered on the command line: every gevent worker calls them, none waits for a dead one."""

import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.mcp import OLDER, ScriptedMcp, text_result, tool
from tests.fakes.upstream import Upstream
from tests.faults.live_server import PROJECT
from tests.waiting import wait_until
from tests.web.chatting import chat_on
from tests.web.server import WebServer
from tests.web.test_provider_switch import WORKERS, connections_to_workers

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

NAME = "of-all-workers"
CALL = scripts.calls_tool(f"{NAME}__forecast", '{"place": "Bern"}')


@pytest.fixture
def model() -> Iterator[Upstream]:
    with Upstream(CALL) as upstream:
        yield upstream


@pytest.fixture
def web(flask_app: Flask, engine: Engine, database_url: str, tmp_path: Path, model: Upstream) -> Iterator[WebServer]:
    settings = {
        "AI_PROVIDER": "compatible",
        "OPENAI_BASE_URL": model.base_url,
        "MCP_PRIVATE_HOSTS": "127.0.0.1",
        "WEB_WORKERS": str(WORKERS),
    }
    with WebServer(tmp_path, DATABASE_URL=database_url, **settings) as web:
        wait_until(lambda: len(web.workers()) == WORKERS, "not all workers have started")
        yield web
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM mcp_servers WHERE name = :name"), {"name": NAME})


def operate(web: WebServer, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "ops", "mcp", *arguments],
        cwd=PROJECT,
        env={**web.environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def answer(connection: HTTPConnection, user: LoggedInUser) -> str:
    """Chat on a connection and return the answer."""
    return str(chat_on(connection, user, "the weather?")["message"]["content"])


def all_answer(web: WebServer, user: LoggedInUser, part: str) -> bool:
    """Return whether every worker answers with `part`. A connection that was closed while it was idle counts as no."""
    try:
        with connections_to_workers(web) as connections:
            return all(part in answer(connection, user) for connection in connections)
    except (OSError, HTTPException):
        return False


def wait_for_answer(web: WebServer, user: LoggedInUser, part: str) -> None:
    wait_until(lambda: all_answer(web, user, part), f"not every worker answers with {part}")


def test_registered_tool_is_called_by_every_worker(web: WebServer, model: Upstream, user: LoggedInUser) -> None:
    server = ScriptedMcp([tool("forecast")], {"forecast": text_result("sunny")}, eras=[OLDER], gives_sessions=True)
    with Upstream(server.script) as upstream:
        operate(web, "add", NAME, f"http://127.0.0.1:{upstream.port}/mcp")
        operate(web, "allow", NAME, "forecast")
        wait_for_answer(web, user, "sunny")
        assert server.methods.count("initialize") <= WORKERS + 1, "one for each worker and one for the list"
    wait_for_answer(web, user, f"The server {NAME}")
    model.script = scripts.words(2)
    wait_for_answer(web, user, "word0 word1")
    model.script = CALL
    operate(web, "disable", NAME)
    wait_for_answer(web, user, f"{NAME}__forecast")
