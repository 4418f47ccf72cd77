"""The URLs and headers that operators may register for an MCP server."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from app.bounds import MCP_URL_LIMIT
from app.config import McpServers
from app.errors import InvalidInput
from app.outbound.addresses import AddressPolicy

SETTING: Final = "MCP_PRIVATE_HOSTS"
MAX_HEADERS: Final = 20
MAX_HEADER_VALUE: Final = 4096  # characters

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
# Set by the client itself.
_RESERVED = frozenset(
    (
        "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect",
        "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
    )
)  # fmt: skip
_RESERVED_PREFIXES = ("mcp-", "proxy-")


def address_policy(settings: McpServers) -> AddressPolicy:
    """Return the policy of the addresses of MCP servers."""
    return AddressPolicy(settings.private_hosts, setting=SETTING)


def check_url(url: str, policy: AddressPolicy) -> None:
    """Raise `InvalidInput` with the reason if `url` cannot be that of a server. Looks up no name."""
    if reason := _url_problem(url, policy):
        raise InvalidInput(f"The URL of an MCP server {reason}.", fields={"url": [f"{reason[0].upper()}{reason[1:]}."]})


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise `InvalidInput` with the reason if a header cannot be sent. The reason contains no value."""
    if len({name.lower() for name in headers}) < len(headers) or len(headers) > MAX_HEADERS:
        raise InvalidInput(f"A server has at most {MAX_HEADERS} headers, each with its own name.")
    for name, value in headers.items():
        lowered = name.lower()
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidInput("The name of a header has 1 to 100 letters, digits and hyphens.")
        if lowered in _RESERVED or lowered.startswith(_RESERVED_PREFIXES):
            raise InvalidInput(f"The header {name} is set by Parley itself.")
        if len(value) > MAX_HEADER_VALUE or not _HEADER_VALUE.fullmatch(value):
            raise InvalidInput(
                f"The value of the header {name} must have 1 to {MAX_HEADER_VALUE} characters of visible ASCII."
            )


def _url_problem(url: str, policy: AddressPolicy) -> str | None:
    if len(url) > MCP_URL_LIMIT or not url.isascii() or not url.isprintable() or " " in url:
        return f"must have at most {MCP_URL_LIMIT} visible ASCII characters"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "has an invalid host or port"
    if not host or parts.scheme not in ("http", "https"):
        return "must look like https://host/path"
    if parts.port == 0:
        return "has an invalid host or port"
    return _forbidden_part(parts) or _insecure(parts, host, policy)


def _forbidden_part(parts: SplitResult) -> str | None:
    if "@" in parts.netloc:
        return "must contain no user and password: send secrets in a header"
    if parts.query or parts.fragment:
        return "must have no query and no fragment: send secrets in a header"
    return None


def _insecure(parts: SplitResult, host: str, policy: AddressPolicy) -> str | None:
    if parts.scheme == "http" and not policy.allows_private(host):
        return f"must begin with https, unless {SETTING} names its host"
    return None
