"""A scripted MCP server for the fake upstream, for what a server of the official SDK does not do.

server = ScriptedMcp(tools=[tool("echo")], calls={"echo": text_result("hello")})
with Upstream(server.script) as upstream: ...
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

from tests.fakes.exchange import Exchange

MODERN, OLDER = "2026-07-28", "2025-11-25"

Call = Callable[[Exchange, dict[str, Any]], Awaitable[None]]


def tool(name: str, description: str = "", schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return the definition of a tool as a server lists it."""
    return {"name": name, "description": description, "inputSchema": schema or {"type": "object"}, **more}


async def respond(exchange: Exchange, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
    """Send a JSON body."""
    data = json.dumps(body).encode()
    await exchange.head(status, "application/json", length=len(data), headers=headers)
    await exchange.send(data)
    await exchange.end()


def answer(request: dict[str, Any], result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


def rejection(request: dict[str, Any], code: int, message: str, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request.get("id"), "error": {"code": code, "message": message, **more}}


def result(**fields: Any) -> Call:
    """Answer a call with this result."""

    async def call(exchange: Exchange, request: dict[str, Any]) -> None:
        await respond(exchange, answer(request, {"resultType": "complete", **fields}))

    return call


def text_result(text: str, **fields: Any) -> Call:
    """Answer a call with a text."""
    return result(content=[{"type": "text", "text": text}], **fields)


class ScriptedMcp:
    """One server. `eras` are those it implements; `sessions` are the ids it has issued, if any."""

    def __init__(
        self,
        tools: Sequence[dict[str, Any]] = (),
        calls: dict[str, Call] | None = None,
        *,
        eras: Sequence[str] = (MODERN, OLDER),
        gives_sessions: bool = False,
        ttl: int | None = None,
    ) -> None:
        self.tools, self.calls, self.eras = list(tools), calls or {}, tuple(eras)
        self.gives_sessions, self.ttl = gives_sessions, ttl
        self.sessions: set[str] = set()
        self.page_size = 1000
        self.methods: list[str] = []

    async def script(self, exchange: Exchange) -> None:
        """Answer one request."""
        request = exchange.json()
        method, version = request["method"], exchange.headers.get("mcp-protocol-version")
        self.methods.append(method)
        if version == MODERN or method == "server/discover":
            await self._modern(exchange, request)
        else:
            await self._older(exchange, request)

    async def _modern(self, exchange: Exchange, request: dict[str, Any]) -> None:
        if MODERN not in self.eras:
            await respond(exchange, rejection(request, -32600, "Bad Request: unsupported protocol version"), 400)
            return
        params, headers = request["params"], exchange.headers
        assert params["_meta"]["io.modelcontextprotocol/protocolVersion"] == MODERN
        assert params["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}
        assert headers["mcp-method"] == request["method"]
        if request["method"] == "server/discover":
            versions = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "resultType": "complete"}
            await respond(exchange, answer(request, versions))
            return
        await self._tools(exchange, request)

    async def _older(self, exchange: Exchange, request: dict[str, Any]) -> None:
        if OLDER not in self.eras:
            await respond(
                exchange, rejection(request, -32022, "unsupported", data={"supported": [MODERN], "requested": "?"}), 400
            )
        elif request["method"] == "initialize":
            headers = {}
            if self.gives_sessions:
                self.sessions.add(session := uuid4().hex)
                headers = {"Mcp-Session-Id": session}
            result = {"protocolVersion": OLDER, "capabilities": {"tools": {}}, "serverInfo": {"name": "x"}}
            await respond(exchange, answer(request, result), headers=headers)
        elif self.gives_sessions and exchange.headers.get("mcp-session-id") not in self.sessions:
            await respond(exchange, rejection(request, -32001, "Session not found"), 404)
        elif "id" not in request:
            await exchange.head(202, None, length=0)
            await exchange.end()
        else:
            await self._tools(exchange, request)

    async def _tools(self, exchange: Exchange, request: dict[str, Any]) -> None:
        params = request.get("params") or {}
        if request["method"] == "tools/list":
            start = int(params.get("cursor", 0))
            end = start + self.page_size
            more = {"nextCursor": str(end)} if end < len(self.tools) else {}
            listed = {"tools": self.tools[start:end], **more, **({} if self.ttl is None else {"ttlMs": self.ttl})}
            await respond(exchange, answer(request, listed))
        elif request["method"] == "tools/call" and params["name"] in self.calls:
            await self.calls[params["name"]](exchange, request)
        else:
            await respond(exchange, rejection(request, -32602, "Unknown tool"), 400)
