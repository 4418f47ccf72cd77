"""The official clients of both languages and the Inspector's command line, against a running Parley.

Each sends the key of a new user with two conversations, and must reach these and no others.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from sqlalchemy import Engine

from app.services.search_index import index_conversation
from tests.api.conversation_files import insert_messages
from tests.api.keys import make_key
from tests.factories import LoggedInUser
from tests.mcp.conftest import McpServer, Run
from tests.mcp.install import PEERS, SOURCE

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("mcp_peers"),
    pytest.mark.skipif(not PEERS.is_installed(), reason="the MCP clients are not installed: run `make mcp`"),
]

STATELESS, HANDSHAKE = "2026-07-28", "2025-11-25"


@dataclass(frozen=True)
class Owner:
    """A user with two conversations, of which the second one is newer, and its API key."""

    key: str
    older: str
    newer: str


@pytest.fixture
def owner(flask_app: Flask, engine: Engine, make_user: Callable[..., LoggedInUser]) -> Owner:
    """Return an owner; the conversations of another user have the same words."""
    user, other = make_user(), make_user()
    ids = []
    for account in (user, user, other):
        messages = [{"role": "user", "content": f"Describe quokkas, {len(ids)}."}]
        conversation = insert_messages(engine, account, messages, title=f"Quokkas {len(ids)}")
        with flask_app.app_context():
            assert index_conversation(account.id, conversation)
        ids.append(f"parley://conversations/{conversation}")
    return Owner(make_key(flask_app, user, ["read", "write"]).secret, ids[0], ids[1])


def variables(server: McpServer, owner: Owner, mode: str) -> dict[str, str]:
    return {"MCP_URL": server.mcp_url, "MCP_KEY": owner.key, "MCP_MODE": mode, "MCP_QUERY": "quokkas"}


def assert_report(report: dict[str, Any], owner: Owner, version: str) -> None:
    """Assert that a client has seen the tools, and the owner's two conversations only."""
    assert (report["version"], report["server"]) == (version, "parley")
    assert {"add_task", "list_tasks", "delete_task", "search_conversations"} <= set(report["tools"])
    assert report["tasks"] == ["Buy oat milk"]
    assert "parley://conversations/{conversation_id}{?after}" in report["templates"]
    assert report["uris"] == [owner.newer, owner.older]
    assert "Describe quokkas, 1." in report["text"]
    assert {item["uri"] for item in report["found"]["conversations"]} == {owner.newer, owner.older}
    assert report["invalid"] is True
    assert "no_such_tool" in report["unknown"]


def test_typescript_client_reads_and_calls(
    server: McpServer, owner: Owner, run: Run, mode: str, tmp_path: Path
) -> None:
    shutil.copy(SOURCE / "programs" / "client.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(PEERS.folder / "node_modules")
    done = run("node", "client.mjs", **variables(server, owner, mode))
    assert done.returncode == 0, done.stdout + done.stderr
    assert_report(orjson.loads(done.stdout), owner, HANDSHAKE if mode == "legacy" else STATELESS)


def test_python_client_reads_and_calls(server: McpServer, owner: Owner, run: Run, mode: str) -> None:
    program = str(SOURCE / "programs" / "client.py")
    done = run(sys.executable, program, PYTHONPATH=str(PEERS.python), **variables(server, owner, mode))
    assert done.returncode == 0, done.stdout + done.stderr
    assert_report(orjson.loads(done.stdout), owner, HANDSHAKE if mode == "legacy" else STATELESS)


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    """Return how a client chooses the revision: the newest, or by a handshake."""
    return str(request.param)


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_inspector_lists_and_calls_tool(server: McpServer, owner: Owner, run: Run, era: str, tmp_path: Path) -> None:
    common = (server.mcp_url, "--transport", "http", "--protocol-era", era, "--format", "json", "--quiet")
    header = ("--header", f"Authorization: Bearer {owner.key}")

    def inspect(*arguments: str) -> dict[str, Any]:
        done = run("mcp-inspector", "--cli", *common, *arguments, *header, HOME=str(tmp_path))
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(orjson.loads(done.stdout))

    names = [tool["name"] for tool in inspect("--method", "tools/list")["result"]["tools"]]
    assert "search_conversations" in names
    called = inspect(
        "--method", "tools/call", "--tool-name", "search_conversations", "--tool-arg", "query=quokkas", "limit=1"
    )["result"]
    [item] = called["structuredContent"]["conversations"]
    assert item["uri"] in (owner.older, owner.newer)
    assert called["structuredContent"]["more"] is True


def test_client_with_revoked_key_learns_why(server: McpServer, owner: Owner, run: Run) -> None:
    program = str(SOURCE / "programs" / "client.py")
    sent = {**variables(server, owner, "auto"), "MCP_KEY": owner.key[:-1] + ("A" if owner.key[-1] != "A" else "B")}
    done = run(sys.executable, program, PYTHONPATH=str(PEERS.python), **sent)
    assert done.returncode != 0
    assert owner.key not in done.stdout + done.stderr
    assert "no such API key" in server.log()
