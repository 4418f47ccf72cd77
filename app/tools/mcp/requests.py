"""Requests to an MCP server: the JSON-RPC body and the headers of each era of the protocol.

Since 2026-07-28 each request is complete: it carries the version and the client's capabilities in `_meta`, and headers
repeat the method and the name (specification 2026-07-28, "Streamable HTTP"). Before, `initialize` agrees on a version,
and the server may give a session id that all later requests carry.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import orjson
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION

OLDEST = "2025-03-26"  # the first version with one endpoint for all requests
HANDSHAKE_VERSIONS = tuple(version for version in HANDSHAKE_PROTOCOL_VERSIONS if version >= OLDEST)
MODERN_VERSION = LATEST_MODERN_VERSION
CLIENT = {"name": "parley", "version": "0.1.0"}

_ids = count(1)
_PLAIN = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_SESSION_ID = re.compile(r"[\x21-\x7e]{1,1024}")
_ENCODED = re.compile(r"=\?base64\?.*\?=")


@dataclass(frozen=True, slots=True)
class Session:
    """The era that a server was found to use: its version, and the session id of older ones that give one."""

    version: str
    id: str | None = None

    @property
    def is_modern(self) -> bool:
        """Whether requests need no handshake."""
        return self.version == MODERN_VERSION


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it is sent."""

    id: int
    method: str
    content: bytes
    headers: Mapping[str, str]


def request(
    session: Session, method: str, params: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Request:
    """Return a request of the session's era. `headers` are those of annotated parameters, sent in the modern era."""
    number = next(_ids)
    if not session.is_modern:
        fields = {"MCP-Protocol-Version": session.version} | ({"Mcp-Session-Id": session.id} if session.id else {})
        return Request(number, method, _content(method, params, number), fields)
    meta = {
        **params.get("_meta", {}),
        PROTOCOL_VERSION_META_KEY: session.version,
        CLIENT_INFO_META_KEY: CLIENT,
        CLIENT_CAPABILITIES_META_KEY: {},
    }
    fields = {"MCP-Protocol-Version": session.version, "Mcp-Method": method, **(headers or {})}
    if isinstance(params.get("name"), str):
        fields["Mcp-Name"] = header_value(params["name"])
    return Request(number, method, _content(method, {**params, "_meta": meta}, number), fields)


def initialize() -> Request:
    """Return the handshake of the older era, which carries no version in a header."""
    number = next(_ids)
    params = {"protocolVersion": LATEST_HANDSHAKE_VERSION, "capabilities": {}, "clientInfo": CLIENT}
    return Request(number, "initialize", _content("initialize", params, number), {})


def notification(session: Session, method: str, params: Mapping[str, Any]) -> Request:
    """Return a notification of the older era; it has no response."""
    sent = request(session, method, params)
    return Request(sent.id, method, _content(method, params, None), sent.headers)


def is_session_id(text: str) -> bool:
    """Return whether `text` may be sent as a session id."""
    return _SESSION_ID.fullmatch(text) is not None


def header_value(value: str) -> str:
    """Return `value` as the value of a header: as it is, or in base64 if it would not arrive unchanged."""
    if _PLAIN.fullmatch(value) and not _ENCODED.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def _content(method: str, params: Mapping[str, Any], number: int | None) -> bytes:
    body = {"jsonrpc": "2.0", **({} if number is None else {"id": number}), "method": method, "params": params}
    return orjson.dumps(body)
