"""The official Python client gives up a call: in both eras, its statement ends and nothing is stored."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from flask import Flask
from sqlalchemy import Engine

from tests.api.keys import make_key
from tests.factories import LoggedInUser
from tests.mcp.install import PEERS, SOURCE
from tests.processes import reaped
from tests.waiting import wait_until
from tests.web.server import WebServer
from tests.web.test_mcp_cancellation import SETTINGS, is_open, locked, waiting

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("mcp_peers"),
    pytest.mark.skipif(not PEERS.is_installed(), reason="the MCP clients are not installed: run `make mcp`"),
]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_call_that_the_client_gives_up_is_cancelled(
    mode: str, flask_app: Flask, user: LoggedInUser, engine: Engine, database_url: str, tmp_path: Path
) -> None:
    created = flask_app.test_client().post("/api/tasks", json={"title": "Wait"}, headers=user.headers)
    task = str(created.get_json()["id"])
    settings = {**SETTINGS, "DB_POOL_SIZE": "3"}
    with WebServer(tmp_path, DATABASE_URL=database_url, WEB_WORKERS="1", **settings) as server, locked(engine, task):
        client = subprocess.Popen(
            [sys.executable, SOURCE / "programs" / "cancelling.py"],
            env={
                **PEERS.environment(),
                "PYTHONPATH": str(PEERS.python),
                "MCP_URL": f"{server.url}/mcp",
                "MCP_KEY": make_key(flask_app, user, ["read", "write"]).secret,
                "MCP_MODE": mode,
                "MCP_TOOL": "update_task",
                "MCP_ARGUMENTS": orjson.dumps({"task_id": task, "title": "Changed"}).decode(),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with reaped(client):
            assert client.stdin is not None
            wait_until(lambda: waiting(engine, task) == 1, "the call does not wait for the row")
            client.stdin.write(b"give up\n")
            client.stdin.flush()
            wait_until(lambda: waiting(engine, task) == 0, "the statement was not cancelled")
            output, _ = client.communicate(b"end\n", timeout=60)
        assert client.returncode == 0
        assert orjson.loads(output) == ["Wait"]
    assert is_open(engine, task)
