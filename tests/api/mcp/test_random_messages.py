"""Messages that hypothesis makes up: each gets an error of the protocol, and nothing fails or is stored."""

from typing import Any

import orjson
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from tests.api.mcp.messages import HANDSHAKE, STATELESS, envelope
from tests.api.rows import owned_rows
from tests.factories import LoggedInUser

METHODS = [
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "notifications/initialized",
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
METAS = st.sampled_from([envelope(), envelope(HANDSHAKE), envelope("x"), {}]) | VALUES
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "_meta": METAS,
        "name": st.sampled_from(["list_tasks", "search_conversations"]) | VALUES,  # these two store nothing
        "arguments": st.fixed_dictionaries({}, optional={"query": VALUES, "limit": VALUES}) | VALUES,
        "uri": st.sampled_from(["parley://conversations/x"]) | VALUES,
        "cursor": VALUES,
        "protocolVersion": st.sampled_from([HANDSHAKE]) | VALUES,
        "capabilities": VALUES,
        "clientInfo": VALUES,
    },
)
MESSAGES = st.fixed_dictionaries(
    {"jsonrpc": st.sampled_from(["2.0", "2.0", "2.0", "1.0", 2])},
    optional={
        "id": st.integers(-(2**63), 2**63) | TEXTS | VALUES,
        "method": st.sampled_from(METHODS) | VALUES,
        "params": PARAMS | VALUES,
    },
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "MCP-Protocol-Version": st.sampled_from([STATELESS, HANDSHAKE, "2025-03-26", "x", ""]),
        "Mcp-Method": st.sampled_from([*METHODS, ""]),
        "Mcp-Name": st.sampled_from(["list_tasks", "search_conversations", "=?base64?eA==?="]),
    },
)


@given(message=MESSAGES | VALUES, headers=HEADERS)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_message_gets_a_result_or_an_error_of_the_protocol(
    client: FlaskClient, engine: Engine, user: LoggedInUser, message: Any, headers: dict[str, str]
) -> None:
    response = client.post("/mcp", json=message, headers={**user.headers, **headers})
    assert response.status_code in (200, 202, 400, 404), response.text
    if response.status_code == 202:
        assert response.data == b""
        return
    body = orjson.loads(response.data)
    assert body["jsonrpc"] == "2.0"
    assert ("result" in body) != ("error" in body)
    sent = message.get("id") if isinstance(message, dict) else None
    assert body["id"] in (sent, None)
    if "error" in body:
        assert isinstance(body["error"]["code"], int)
        assert 0 < len(body["error"]["message"]) < 1000
    assert not any(owned_rows(engine, user).values())
