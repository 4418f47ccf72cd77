"""A server that does not answer costs one attempt per interval, and nothing without a call."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest

from app.outbound.cancellation import CancelToken
from app.outbound.timeouts import Timeouts
from app.tools.mcp import circuits
from app.tools.mcp.client import CallLimits, McpClient
from app.tools.mcp.errors import McpError
from tests.fakes.exchange import Exchange
from tests.fakes.mcp import MODERN, OLDER, ScriptedMcp, rejection, respond, text_result, tool
from tests.metrics.scrape import Since
from tests.tools.mcp.conftest import POLICY, TIMEOUTS, Serve, client, context, only_tool, registered, registry
from tests.waiting import wait_until

CALL: dict[str, Any] = {"name": "read", "arguments": {}}


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def call(files: McpClient, **limits: Any) -> Any:
    return files.send("tools/call", CALL, CallLimits(**limits))


async def hang(exchange: Exchange, request: dict[str, Any]) -> None:
    await exchange.pause(None)


def test_dead_server_is_tried_once_in_the_interval(since: Since, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuits, "OPEN_SECONDS", 3600.0)
    files = McpClient("dead", f"http://127.0.0.1:{closed_port()}/mcp", {}, TIMEOUTS, POLICY)
    messages = set()
    for _ in range(20):
        with pytest.raises(McpError) as caught:
            call(files)
        assert not caught.value.uncertain
        messages.add(caught.value.message.partition(",")[0])
    assert messages == {"refused the connection: check that it runs and that the URL is right", "has failed too often"}
    assert since.counted("mcp_requests_total", server="dead", method="tools/call", outcome="skipped") == 19
    assert since.counted("mcp_requests_total", server="dead", method="tools/call", outcome="failed") == 1


def test_server_that_recovered_is_called_again(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async def die(exchange: Exchange, request: dict[str, Any]) -> None:
        exchange.connection.abort()

    monkeypatch.setattr(circuits, "OPEN_SECONDS", 0.05)
    server = ScriptedMcp([], {"read": die})
    files = client(serve(server), version=MODERN)
    for _ in range(circuits.FAILURES):
        assert not _succeeds(files)
    server.calls["read"] = text_result("ok")
    wait_until(lambda: _succeeds(files), "the circuit did not close")
    assert all(_succeeds(files) for _ in range(5))


def _succeeds(files: McpClient) -> bool:
    try:
        call(files)
    except McpError:
        return False
    return True


def test_server_that_accepts_and_never_answers_opens_the_circuit(serve: Serve) -> None:
    upstream = serve(ScriptedMcp([], {"read": hang}))
    files = client(upstream, version=MODERN, timeouts=Timeouts(connect=5, first_token=1, idle=1, total=1))
    for _ in range(circuits.FAILURES):
        with pytest.raises(McpError, match="within 1 seconds"):
            call(files)
    for _ in range(10):
        with pytest.raises(McpError, match="has failed too often"):
            call(files)
    upstream.wait_for(lambda: len(upstream.requests) == circuits.FAILURES)


def test_error_that_the_server_sends_leaves_the_circuit_closed(serve: Serve) -> None:
    async def reject(exchange: Exchange, request: dict[str, Any]) -> None:
        await respond(exchange, rejection(request, -32603, "internal"))

    upstream = serve(ScriptedMcp([], {"read": reject}))
    files = client(upstream, version=MODERN)
    for _ in range(10):
        with pytest.raises(McpError, match="rejected the request"):
            call(files)
    assert len(upstream.requests) == 10


def test_call_that_got_no_time_leaves_the_circuit_closed(serve: Serve) -> None:
    upstream = serve(ScriptedMcp([], {"read": hang}))
    files = client(upstream, version=MODERN)
    for _ in range(circuits.FAILURES + 1):
        with pytest.raises(McpError, match="did not finish its answer"):
            call(files, until=monotonic() + 0.5)


@pytest.mark.parametrize("eras", [[MODERN], [OLDER]])
def test_cancel_ends_the_call_and_reaches_the_server(serve: Serve, eras: list[str]) -> None:
    server = ScriptedMcp([], {"read": hang}, eras=eras)
    upstream = serve(server)
    files, token = client(upstream), CancelToken()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(call, files, cancel_token=token)
        upstream.wait_for(lambda: "tools/call" in server.methods)
        wait_until(lambda: (token.cancel(), waiting.done())[1])
    with pytest.raises(McpError):
        waiting.result()
    upstream.wait_for(lambda: upstream.disconnects > 0)
    if eras == [OLDER]:
        upstream.wait_for(lambda: "notifications/cancelled" in server.methods)


def test_handshake_of_one_user_is_made_once_by_parallel_calls(serve: Serve) -> None:
    server = ScriptedMcp([], {"read": text_result("ok")}, eras=[OLDER], gives_sessions=True)
    files = client(serve(server))
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        call(files)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(start) for _ in range(8)]:
            future.result()
    assert server.methods.count("initialize") == 1
    assert server.methods.count("tools/call") == 8


def test_listing_the_tools_of_a_dead_server_sends_nothing() -> None:
    server = registered(None, [tool("read")], url=f"http://127.0.0.1:{closed_port()}/mcp")
    tools = registry(server)
    assert [offered.name for offered in tools.tools_for(uuid4())] == ["files__read"]
    outcome = tools.call(only_tool(tools), context(), {})
    assert outcome.is_error
    assert outcome.content.startswith("The server files refused the connection")
