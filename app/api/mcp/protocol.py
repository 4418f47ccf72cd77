"""Revisions of MCP, and the rules of its HTTP headers.

There are two eras. Since 2026-07-28 each request names its revision in `params._meta`, and headers repeat what a proxy
needs to route it. Clients of earlier revisions begin with `initialize` and then send the agreed revision in a header.
This server keeps nothing between two requests in either era, and gives no session id.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from flask import request
from mcp_types import CLIENT_CAPABILITIES_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.jsonrpc import HEADER_MISMATCH, INVALID_PARAMS, UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from app.api.mcp.errors import McpError
from app.api.mcp.messages import Message

STATELESS = MODERN_PROTOCOL_VERSIONS  # revisions without a handshake
# 2024-11-05 had another transport, so a client of it cannot use this endpoint.
HANDSHAKE = ("2025-03-26", "2025-06-18", "2025-11-25")
SUPPORTED = (*HANDSHAKE, *STATELESS)
_WITHOUT_HEADER = "2025-03-26"  # the revision of a client that sends no header, by the later revisions

VERSION_HEADER, METHOD_HEADER, NAME_HEADER = "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"
# The parameter that the name header repeats, by method.
_NAMES = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_ENCODED = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
_SHOWN = 100  # characters of a client's value in an error


@dataclass(frozen=True, slots=True)
class Revision:
    """The revision of a request."""

    version: str

    @property
    def is_stateless(self) -> bool:
        return self.version in STATELESS


def revision_of(message: Message) -> Revision:
    """Return the revision of the current request. Raises `McpError` if it is unknown, or if a header contradicts it."""
    sent = _header(VERSION_HEADER)
    if message.id is None:
        return _known(sent or _WITHOUT_HEADER)
    if PROTOCOL_VERSION_META_KEY in message.meta or message.method == "server/discover" or sent in STATELESS:
        return _stateless(message, sent)
    if message.method == "initialize":
        return Revision(HANDSHAKE[-1])  # the handshake itself agrees on one
    return _known(sent or _WITHOUT_HEADER)


def _stateless(message: Message, sent: str | None) -> Revision:
    for key in (PROTOCOL_VERSION_META_KEY, CLIENT_CAPABILITIES_META_KEY):
        if key not in message.meta:
            raise McpError(INVALID_PARAMS, f"`params._meta` must have `{key}`.")
    version = message.meta[PROTOCOL_VERSION_META_KEY]
    if not isinstance(version, str):
        raise McpError(INVALID_PARAMS, f"`{PROTOCOL_VERSION_META_KEY}` must be a string.")
    _compare(VERSION_HEADER, sent, version)
    _compare(METHOD_HEADER, _header(METHOD_HEADER), message.method)
    name = message.params.get(_NAMES.get(message.method, ""))
    if isinstance(name, str):  # anything else is refused with the other parameters
        _compare(NAME_HEADER, _decoded(_header(NAME_HEADER)), name)
    return _known(version, STATELESS)


def _known(version: str, supported: tuple[str, ...] = SUPPORTED) -> Revision:
    if version in supported:
        return Revision(version)
    raise McpError(
        UNSUPPORTED_PROTOCOL_VERSION,
        f"This server does not support the revision `{_short(version)}` of MCP; it supports {', '.join(supported)}.",
        data={"supported": list(supported), "requested": version},
    )


def _compare(name: str, sent: str | None, expected: Any) -> None:
    if sent is None:
        raise McpError(HEADER_MISMATCH, f"The header `{name}` is missing or cannot be decoded.")
    if sent != expected:
        raise McpError(
            HEADER_MISMATCH,
            f"The header `{name}` is `{_short(sent)}`, but the message has `{_short(str(expected))}`.",
        )


def _header(name: str) -> str | None:
    """Return a header without white space around it; repeated ones are joined, so they equal no value."""
    value = request.headers.get(name)
    return None if value is None else value.strip(" \t")


def _decoded(value: str | None) -> str | None:
    """Return a name from its header: as it is, or in Base64 if it has characters that a header cannot hold."""
    match = _ENCODED.fullmatch(value or "")
    if match is None:
        return value
    try:
        name = base64.b64decode(match[1], validate=True)
        return name.decode() if base64.b64encode(name).decode() == match[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _short(value: str) -> str:
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
