"""Messages of an MCP client, of both eras."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

STATELESS = "2026-07-28"
HANDSHAKE = "2025-11-25"
_NAMES = {"tools/call": "name", "resources/read": "uri", "prompts/get": "name"}
_ids = count(1)


def envelope(version: str = STATELESS) -> dict[str, Any]:
    """Return `_meta` of a request without a handshake."""
    return {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
    }


@dataclass(frozen=True)
class McpCaller:
    """Sends messages with the headers of a user. `version` decides the era."""

    client: FlaskClient
    headers: dict[str, str]
    version: str = STATELESS
    added: dict[str, str] = field(default_factory=dict)

    def send(self, method: str, params: dict[str, Any] | None = None, **headers: str | None) -> TestResponse:
        """Send a request; `headers` replace those that belong to the message, with `_` for `-`. None removes one."""
        params = dict(params or {})
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": next(_ids), "method": method}
        sent: dict[str, str | None] = {"MCP-Protocol-Version": self.version}
        if self.version == STATELESS:
            params.setdefault("_meta", envelope())
            sent |= {"Mcp-Method": method}
            if method in _NAMES and _NAMES[method] in params:
                sent["Mcp-Name"] = str(params[_NAMES[method]])
        elif method == "initialize":
            del sent["MCP-Protocol-Version"]
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        kept = {name: value for name, value in sent.items() if value is not None}
        return self.post({**message, "params": params}, kept)

    def post(self, message: Any, headers: dict[str, str] | None = None) -> TestResponse:
        """Send any JSON value."""
        return self.client.post("/mcp", json=message, headers={**self.headers, **self.added, **(headers or {})})

    def result(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and return its result."""
        response = self.send(method, params)
        assert response.status_code == 200, response.text
        assert response.json is not None
        assert "result" in response.json, response.text
        return dict(response.json["result"])

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its result."""
        return self.result("tools/call", {"name": name, "arguments": arguments})


def error_of(response: TestResponse) -> tuple[int, int, str]:
    """Return HTTP status, code and message of an error."""
    assert response.json is not None
    assert response.json["jsonrpc"] == "2.0"
    error = response.json["error"]
    return response.status_code, error["code"], error["message"]
