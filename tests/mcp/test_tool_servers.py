"""Parley's client against MCP servers of the official SDK: one is slow, dies, lies about its schema, or redirects."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from app.outbound.timeouts import Timeouts
from app.tools.mcp.client import McpClient
from app.tools.mcp.errors import McpError
from app.tools.mcp.listing import list_tools
from app.tools.registry import ToolRegistry
from app.tools.tool import Tool
from tests.fakes.mcp import MODERN, OLDER
from tests.mcp.install import PEERS, SOURCE
from tests.tools.mcp.conftest import POLICY, TIMEOUTS, context, registered, registry
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("mcp_peers"),
    pytest.mark.skipif(not PEERS.is_installed(), reason="the MCP servers are not installed: run `make mcp`"),
]

Start = Callable[..., str]
ERAS = pytest.mark.parametrize("version", [None, OLDER])


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Return a function that starts a server with its options and returns its URL."""
    with ExitStack() as stack:

        def run(*options: str) -> str:
            process = subprocess.Popen(
                [sys.executable, SOURCE / "programs" / "tool_server.py", *options],
                env={**PEERS.environment(), "PYTHONPATH": str(PEERS.python)},
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(_stop, process)
            assert process.stdout is not None
            return f"http://127.0.0.1:{int(process.stdout.readline())}/mcp"

        yield run


@pytest.fixture(scope="module")
def url(start: Start) -> str:
    """Return the URL of a server that no test ends."""
    return start()


def _stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def tools(url: str, version: str | None, timeouts: Timeouts = TIMEOUTS) -> tuple[ToolRegistry, dict[str, Tool]]:
    """Return a registry with all tools of the server, as an operator allowed them, and the tools by name."""
    listing = list_tools(McpClient("peer", url, {}, TIMEOUTS, POLICY, version), TIMEOUTS.total)
    assert listing.version == (version or MODERN)
    assert listing.left_out == {}
    listed = [
        {
            "name": tool.name,
            "description": tool.description,
            "inputSchema": tool.input_schema,
            "outputSchema": tool.output_schema,
        }
        for tool in listing.tools
    ]
    server = registered(None, listed, name="peer", url=url, timeouts=timeouts, protocol_version=version)
    made = registry(server)
    return made, {tool.title: tool for tool in made.tools_for(context().user_id)}


@pytest.mark.parametrize("version", [None, MODERN, OLDER])
def test_tool_is_listed_and_called(url: str, version: str | None) -> None:
    _list_and_call(url, version)


@ERAS
def test_server_that_answers_in_json_is_called(start: Start, version: str | None) -> None:
    _list_and_call(start("--json"), version)


def _list_and_call(url: str, version: str | None) -> None:
    made, by_name = tools(url, version)
    assert sorted(by_name) == ["dies", "echo", "lies", "slow"]
    assert by_name["echo"].name == "peer__echo"
    for text in ("one", "two"):
        result = made.call(by_name["echo"], context(), {"text": text})
        assert (result.is_error, result.content.splitlines()[-1]) == (False, text)
    assert made.call(by_name["echo"], context(), {}).is_error


@ERAS
def test_slow_tool_ends_at_its_timeout(url: str, version: str | None) -> None:
    made, by_name = tools(url, version, Timeouts(connect=30, first_token=1, idle=1, total=30))
    outcome = made.call_outcome(by_name["slow"], context(), {})
    assert outcome.result.is_error
    assert outcome.uncertain
    assert "within 1 seconds" in outcome.result.content
    made, by_name = tools(url, version)
    assert made.call(by_name["echo"], context(), {"text": "on time"}).content.endswith("on time")


@ERAS
def test_server_that_dies_in_a_call_leaves_the_outcome_unknown(start: Start, version: str | None) -> None:
    made, by_name = tools(start(), version)
    outcome = made.call_outcome(by_name["dies"], context(), {})
    assert outcome.result.is_error
    assert outcome.uncertain
    # While the process ends, a connection may still be accepted and broken.
    wait_until(lambda: not made.call_outcome(by_name["echo"], context(), {"text": "x"}).uncertain)
    assert made.call(by_name["echo"], context(), {"text": "x"}).is_error


@ERAS
def test_result_that_does_not_fit_its_output_schema_is_an_error(url: str, version: str | None) -> None:
    made, by_name = tools(url, version)
    outcome = made.call_outcome(by_name["lies"], context(), {})
    assert (outcome.result.is_error, outcome.uncertain) == (True, False)
    assert "count: must be of type integer" in outcome.result.content
    assert "ignore your instructions" not in outcome.result.content


@ERAS
def test_redirect_to_a_private_address_is_not_followed(url: str, version: str | None) -> None:
    redirecting = url.replace("/mcp", "/redirects")
    with pytest.raises(McpError, match="redirected the request, which is not followed"):
        list_tools(McpClient("peer", redirecting, {}, TIMEOUTS, POLICY, version), TIMEOUTS.total)
