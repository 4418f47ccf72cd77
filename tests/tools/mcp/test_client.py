"""The client: eras of the protocol, sessions, paging, and headers."""

import itertools
from typing import Any
from uuid import uuid4

import pytest

from app.tools.mcp.client import CallLimits
from app.tools.mcp.errors import McpError
from app.tools.mcp.listing import DEFAULT_TTL, MAX_TTL, MIN_TTL, list_tools
from tests.fakes import scripts
from tests.fakes.exchange import Exchange
from tests.fakes.mcp import MODERN, OLDER, ScriptedMcp, answer, rejection, respond, text_result, tool
from tests.fakes.upstream import Upstream
from tests.tools.mcp.conftest import SECRET, Serve, client, context, only_tool, registered, registry

ECHO = [tool("echo", "Returns a text.", {"type": "object", "properties": {"text": {"type": "string"}}})]


def echo(**more: Any) -> ScriptedMcp:
    return ScriptedMcp(ECHO, {"echo": text_result("hello")}, **more)


def test_modern_server_gets_one_request_for_each_call(serve: Serve) -> None:
    server = echo()
    upstream = serve(server)
    files = client(upstream, version=MODERN)
    for _ in range(3):
        files.send("tools/call", {"name": "echo", "arguments": {}}, CallLimits())
    assert server.methods == ["tools/call"] * 3
    assert upstream.connections == 1
    seen = upstream.requests[0].headers
    assert (seen["mcp-protocol-version"], seen["mcp-method"], seen["mcp-name"]) == (MODERN, "tools/call", "echo")


@pytest.mark.parametrize("version", [None, MODERN, OLDER])
@pytest.mark.parametrize("eras", [(MODERN,), (OLDER,), (MODERN, OLDER)])
def test_each_era_is_found_from_each_known_version(serve: Serve, version: str | None, eras: tuple[str, ...]) -> None:
    server = echo(eras=eras)
    files = client(serve(server), version=version)
    result, used = files.send("tools/call", {"name": "echo", "arguments": {}}, CallLimits())
    assert result["content"][0]["text"] == "hello"
    assert used in eras
    del server.methods[:]
    files.send("tools/call", {"name": "echo", "arguments": {}}, CallLimits())
    assert server.methods == ["tools/call"]


def test_session_of_older_server_is_made_once_for_each_user(serve: Serve) -> None:
    server = echo(eras=[OLDER], gives_sessions=True)
    upstream = serve(server)
    files = client(upstream)
    for user in ("one", "two", "one", "two"):
        files.send("tools/call", {"name": "echo", "arguments": {}}, CallLimits(), user=user)
    assert server.methods.count("initialize") == server.methods.count("notifications/initialized") == 2
    calls = [seen.headers["mcp-session-id"] for seen in upstream.requests if seen.body["method"] == "tools/call"]
    assert calls[0] == calls[2] != calls[1] == calls[3]
    after = [seen for seen in upstream.requests if seen.body["method"] in ("notifications/initialized", "tools/call")]
    assert {seen.headers["mcp-protocol-version"] for seen in after} == {OLDER}


def test_lost_session_is_made_again_and_call_repeated_once(serve: Serve) -> None:
    server = echo(eras=[OLDER], gives_sessions=True)
    files = client(serve(server))
    files.send("tools/call", {"name": "echo", "arguments": {}}, CallLimits())
    server.sessions.clear()
    del server.methods[:]
    files.send("tools/call", {"name": "echo", "arguments": {}}, CallLimits())
    assert server.methods == ["tools/call", "initialize", "notifications/initialized", "tools/call"]


def test_server_of_unknown_version_is_an_error() -> None:
    async def script(exchange: Exchange) -> None:
        request = exchange.json()
        if request["method"] == "initialize":
            await respond(exchange, answer(request, {"protocolVersion": "2024-11-05"}))
        else:
            await respond(exchange, rejection(request, -32601, "Method not found"), 404)

    with Upstream(script) as upstream, pytest.raises(McpError, match="supports no version"):
        client(upstream).send("tools/call", {"name": "echo", "arguments": {}}, CallLimits())


def test_list_is_read_page_by_page_with_ttl_of_server(serve: Serve) -> None:
    server = ScriptedMcp([tool(f"tool_{number:02}") for number in range(25)], ttl=120_000)
    server.page_size = 10
    listing = list_tools(client(serve(server)), 20)
    assert [definition.name for definition in listing.tools] == [f"tool_{number:02}" for number in range(25)]
    assert (listing.ttl_seconds, listing.version) == (120, MODERN)


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [(None, DEFAULT_TTL), (0, MIN_TTL), (-5, MIN_TTL), (10**15, MAX_TTL), ("1000", DEFAULT_TTL), (True, DEFAULT_TTL)],
)
def test_ttl_of_server_is_bounded(serve: Serve, ttl: Any, seconds: int) -> None:
    assert list_tools(client(serve(ScriptedMcp(ECHO, ttl=ttl))), 20).ttl_seconds == seconds


def test_list_without_end_is_bounded() -> None:
    numbers = itertools.count()

    async def script(exchange: Exchange) -> None:
        request = exchange.json()
        number = next(numbers)
        tools = [tool(f"tool_{number}_{index}") for index in range(50)]
        await respond(exchange, answer(request, {"tools": tools, "nextCursor": str(number)}))

    with Upstream(script) as upstream:
        listing = list_tools(client(upstream, version=MODERN), 20)
        assert len(listing.tools) == 200
        assert "(more)" in listing.left_out
        assert len(upstream.requests) < 10


def test_response_in_a_stream_of_events_is_found_among_notifications(serve: Serve) -> None:
    async def call(exchange: Exchange, request: dict[str, Any]) -> None:
        await exchange.head()
        await exchange.send(b": ping\n\nid: 1\ndata: \n\n")
        await exchange.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}})
        await exchange.event({"jsonrpc": "2.0", "id": request["id"], "method": "sampling/createMessage", "params": {}})
        await exchange.event(answer({"id": 99_999}, {"content": [{"type": "text", "text": "of another"}]}))
        await exchange.event(answer(request, {"content": [{"type": "text", "text": "mine"}]}))
        await exchange.end()

    upstream = serve(ScriptedMcp(ECHO, {"echo": call}))
    tools = registry(registered(upstream, ECHO))
    assert tools.call(only_tool(tools), context(), {}).content.endswith("\nmine")
    assert tools.call(only_tool(tools), context(), {}).content.endswith("\nmine")


def test_headers_of_operator_and_call_key_are_sent(serve: Serve) -> None:
    upstream = serve(echo())
    tools = registry(registered(upstream, ECHO, protocol_version=MODERN))
    user = uuid4()
    tools.call(only_tool(tools), context(call_key="turn-7-call-2", user_id=user), {"text": "x"})
    seen = upstream.requests[0]
    assert seen.headers["authorization"] == f"Bearer {SECRET}"
    assert seen.body["params"]["_meta"]["parley/call-key"] == "turn-7-call-2"
    assert seen.body["params"]["arguments"] == {"text": "x"}
    assert str(user) not in str(seen)


def test_annotated_arguments_are_repeated_in_headers(serve: Serve) -> None:
    schema = {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "fast": {"type": "boolean", "x-mcp-header": "Fast"},
            "deep": {"type": "object", "properties": {"count": {"type": "integer", "x-mcp-header": "Count"}}},
            "unset": {"type": "string", "x-mcp-header": "Unset"},
        },
    }
    upstream = serve(ScriptedMcp([], {"run": text_result("ok")}))
    tools = registry(registered(upstream, [tool("run", schema=schema)], protocol_version=MODERN))
    tools.call(only_tool(tools), context(), {"region": "Zürich", "fast": True, "deep": {"count": 3}})
    headers = upstream.requests[0].headers
    assert headers["mcp-param-region"] == "=?base64?WsO8cmljaA==?="
    assert (headers["mcp-param-fast"], headers["mcp-param-count"]) == ("true", "3")
    assert "mcp-param-unset" not in headers


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "rejected the credentials"),
        (403, "rejected the credentials"),
        (302, "redirected the request"),
        (307, "redirected the request"),
        (500, "answered with the status 500"),
        (202, "accepted the request but gave no answer"),
    ],
)
def test_status_without_result_is_an_error(status: int, message: str) -> None:
    with Upstream(scripts.status(status, "no", {"Location": "http://169.254.169.254/latest"})) as upstream:
        with pytest.raises(McpError, match=message):
            client(upstream, version=MODERN).send("tools/call", {"name": "echo", "arguments": {}}, CallLimits())
        assert len(upstream.requests) == 1
