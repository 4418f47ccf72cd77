"""The protocol: eras, methods, headers and messages that are refused."""

import base64
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api.mcp.messages import HANDSHAKE, STATELESS, McpCaller, envelope, error_of
from tests.factories import LoggedInUser

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022
REQUEST = {"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {"_meta": envelope()}}
HEADERS = {"MCP-Protocol-Version": STATELESS, "Mcp-Method": "tools/list"}


def test_discover_names_revision_capabilities_and_server(caller: McpCaller) -> None:
    result = caller.result("server/discover")
    assert result["supportedVersions"] == [STATELESS]
    assert result["capabilities"] == {"tools": {}, "resources": {}}
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "parley"
    assert result["resultType"] == "complete"
    assert result["cacheScope"] == "private"


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
def test_initialize_agrees_on_supported_revision(earlier: McpCaller, version: str) -> None:
    response = earlier.send("initialize", initialize_params(version))
    assert response.json["result"]["protocolVersion"] == version
    assert "Mcp-Session-Id" not in response.headers


@pytest.mark.parametrize("version", ["2024-11-05", "2026-07-28", "1999-01-01", ""])
def test_initialize_offers_latest_handshake_revision_for_others(earlier: McpCaller, version: str) -> None:
    result = earlier.result("initialize", initialize_params(version))
    assert result["protocolVersion"] == HANDSHAKE
    assert result["serverInfo"]["name"] == "parley"


def initialize_params(version: str) -> dict[str, Any]:
    return {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}


def test_ping_and_notification_of_earlier_revision(earlier: McpCaller) -> None:
    assert earlier.result("ping") == {}
    response = earlier.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (response.status_code, response.data) == (202, b"")


def test_session_id_of_client_is_ignored(earlier: McpCaller) -> None:
    assert earlier.send("ping", Mcp_Session_Id="made-up").status_code == 200


def test_request_without_version_header_counts_as_first_revision(caller: McpCaller) -> None:
    response = caller.post({"jsonrpc": "2.0", "id": "a", "method": "tools/list"})
    assert response.status_code == 200
    assert response.json["id"] == "a"
    assert "ttlMs" not in response.json["result"]


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_other_http_method_is_405_with_allow(client: FlaskClient, user: LoggedInUser, method: str) -> None:
    response = client.open("/mcp", method=method, headers={**user.headers, "Accept": "text/event-stream"})
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]


@pytest.mark.parametrize(
    "method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "x", "prompts/list"]
)
def test_unknown_method_is_404_without_handshake(caller: McpCaller, method: str) -> None:
    status, code, message = error_of(caller.send(method))
    assert (status, code) == (404, METHOD_NOT_FOUND)
    assert f"`{method}`" in message


@pytest.mark.parametrize("method", ["server/discover", "logging/setLevel", "prompts/list", "x"])
def test_unknown_method_is_readable_error_after_handshake(earlier: McpCaller, method: str) -> None:
    if method == "server/discover":  # without `_meta`, this is no request of its revision
        assert error_of(earlier.send(method))[:2] == (400, INVALID_PARAMS)
    else:
        assert error_of(earlier.send(method))[:2] == (200, METHOD_NOT_FOUND)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"MCP-Protocol-Version": None}, "MCP-Protocol-Version"),
        ({"MCP-Protocol-Version": HANDSHAKE}, "MCP-Protocol-Version"),
        ({"MCP-Protocol-Version": f"{STATELESS},{STATELESS}"}, "MCP-Protocol-Version"),
        ({"Mcp-Method": None}, "Mcp-Method"),
        ({"Mcp-Method": "tools/call"}, "Mcp-Method"),
        ({"Mcp-Method": "TOOLS/LIST"}, "Mcp-Method"),
        ({"Mcp-Method": ""}, "Mcp-Method"),
    ],
)
def test_header_that_differs_from_body_is_refused(caller: McpCaller, changed: dict[str, Any], word: str) -> None:
    headers = {name: value for name, value in {**HEADERS, **changed}.items() if value is not None}
    response = caller.post(REQUEST, headers)
    status, code, message = error_of(response)
    assert (status, code) == (400, HEADER_MISMATCH)
    assert word in message
    assert response.json["id"] == 7


def encoded(name: str) -> str:
    return f"=?base64?{base64.b64encode(name.encode()).decode()}?="


@pytest.mark.parametrize(
    "name", [None, "other", "Search_conversations", encoded("other"), "=?base64?!?=", "=?base64?c2VhcmNo", "a,b"]
)
def test_name_header_that_differs_is_refused(caller: McpCaller, name: str | None) -> None:
    params = {"name": "search_conversations", "arguments": {"query": "x"}}
    assert error_of(caller.send("tools/call", params, Mcp_Name=name))[:2] == (400, HEADER_MISMATCH)


@pytest.mark.parametrize("name", ["  search_conversations\t", "search_conversations", encoded("search_conversations")])
def test_equal_headers_are_accepted(caller: McpCaller, name: str) -> None:
    params = {"name": "search_conversations", "arguments": {"query": "x"}}
    headers = {"Mcp_Name": name, "Mcp_Method": " tools/call ", "MCP_Protocol_Version": f" {STATELESS} "}
    assert caller.send("tools/call", params, **headers).status_code == 200


@pytest.mark.parametrize("version", ["v999.0.0", "2025-11-25", "2024-11-05", "x" * 5000])
def test_unknown_version_names_supported_ones(caller: McpCaller, version: str) -> None:
    response = caller.post(
        {**REQUEST, "params": {"_meta": envelope(version)}}, {**HEADERS, "MCP-Protocol-Version": version}
    )
    assert error_of(response)[:2] == (400, UNSUPPORTED_VERSION)
    assert response.json["error"]["data"] == {"supported": [STATELESS], "requested": version}


def test_unknown_version_of_header_alone_names_supported_ones(caller: McpCaller) -> None:
    for message in ({"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "method": "notifications/x"}):
        response = caller.post(message, {"MCP-Protocol-Version": "2024-11-05"})
        assert error_of(response)[:2] == (400, UNSUPPORTED_VERSION)
        assert HANDSHAKE in response.json["error"]["data"]["supported"]


@pytest.mark.parametrize("key", ["protocolVersion", "clientCapabilities"])
@pytest.mark.parametrize("method", ["tools/list", "server/discover"])
def test_missing_meta_is_invalid_params(caller: McpCaller, method: str, key: str) -> None:
    meta = {name: value for name, value in envelope().items() if not name.endswith(key)}
    for params in ({}, {"_meta": meta}, {"_meta": 5}):
        response = caller.post({**REQUEST, "method": method, "params": params}, {**HEADERS, "Mcp-Method": method})
        status, code, message = error_of(response)
        assert (status, code) == (400, INVALID_PARAMS)
        assert "_meta" in message


def test_client_info_may_be_missing(caller: McpCaller) -> None:
    meta = {name: value for name, value in envelope().items() if not name.endswith("clientInfo")}
    assert caller.post({**REQUEST, "params": {"_meta": meta}}, HEADERS).status_code == 200


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        (b"", PARSE_ERROR, "JSON"),
        (b"{", PARSE_ERROR, "column"),
        (b"\xff", PARSE_ERROR, "UTF-8"),
        (b'{"jsonrpc": "2.0", "id": NaN}', PARSE_ERROR, "JSON"),
        (b"[]", INVALID_REQUEST, "Batches"),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', INVALID_REQUEST, "Batches"),
        (b"5", INVALID_REQUEST, "object"),
        (b"null", INVALID_REQUEST, "object"),
        (b"{}", INVALID_REQUEST, "2.0"),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', INVALID_REQUEST, "2.0"),
        (b'{"jsonrpc": "2.0", "id": 1}', INVALID_REQUEST, "method"),
        (b'{"jsonrpc": "2.0", "id": 1, "result": {}}', INVALID_REQUEST, "method"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 5}', INVALID_REQUEST, "string"),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', INVALID_REQUEST, "id"),
        (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', INVALID_REQUEST, "id"),
        (b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', INVALID_REQUEST, "id"),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "ping"}', INVALID_REQUEST, "id"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}', INVALID_REQUEST, "params"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": null}', INVALID_REQUEST, "params"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "p\\u0000"}', INVALID_REQUEST, "NUL"),
        (
            b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a":' + b"[" * 40 + b"]" * 40 + b"}}",
            INVALID_REQUEST,
            "Nested",
        ),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, PARSE_ERROR, "JSON"),
    ],
)
def test_body_that_is_no_message_is_refused(
    client: FlaskClient, user: LoggedInUser, body: bytes, code: int, word: str
) -> None:
    response = client.post("/mcp", data=body, content_type="application/json", headers=user.headers)
    status, sent, message = error_of(response)
    assert (status, sent) == (400, code)
    assert word in message
    assert "id" in response.json


def test_body_without_json_type_is_refused(client: FlaskClient, user: LoggedInUser) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = client.post("/mcp", data=b'{"jsonrpc": "2.0"}', content_type=content_type, headers=user.headers)
        status, code, message = error_of(response)
        assert (status, code) == (400, INVALID_REQUEST)
        assert "Content-Type" in message


def test_huge_body_is_413_and_says_so(caller: McpCaller) -> None:
    response = caller.send("tools/call", {"name": "search_conversations", "arguments": {"query": "x" * 2_000_000}})
    status, code, message = error_of(response)
    assert (status, code) == (413, INVALID_REQUEST)
    assert "bytes" in message


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {}),
        ("tools/call", {"name": 5}),
        ("tools/call", {"name": "search_conversations", "arguments": []}),
        ("resources/read", {}),
        ("resources/list", {"cursor": 5}),
        ("resources/list", {"cursor": "made-up"}),
        ("resources/templates/list", {"cursor": "made-up"}),
        ("tools/list", {"cursor": "made-up"}),
    ],
)
def test_parameters_that_do_not_fit_are_refused(either: McpCaller, method: str, params: dict[str, Any]) -> None:
    name = {} if either.version == HANDSHAKE else {"Mcp_Name": str(params.get("name"))}
    status, code, message = error_of(either.send(method, params, **name))
    assert (status, code) == (400 if either.version == STATELESS else 200, INVALID_PARAMS)
    assert message
