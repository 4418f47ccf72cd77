"""Names of MCP tools, as models see them: with the server's name, and legal for every provider."""

import hashlib
import re
from collections.abc import Iterable
from typing import Final

MAX_LENGTH: Final = 64
SEPARATOR: Final = "__"

_ILLEGAL = re.compile("[^a-zA-Z0-9_-]")
_HASH_LENGTH = 8


def public_name(server: str, tool: str) -> str:
    """Return the name of a tool: `server__tool`. It depends on nothing else, so it stays the same.

    A tool's name that is changed to be legal or short ends with a hash, so that two of them stay different.
    """
    name = f"{server}{SEPARATOR}{_ILLEGAL.sub('_', tool)}"
    if name == f"{server}{SEPARATOR}{tool}" and len(name) <= MAX_LENGTH:
        return name
    suffix = "_" + hashlib.sha256(tool.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return name[: MAX_LENGTH - len(suffix)] + suffix


def public_names(server: str, tools: Iterable[str]) -> dict[str, str]:
    """Return the public names by the tool's name; of two tools with one public name, only the first has it."""
    names: dict[str, str] = {}
    for tool in tools:
        name = public_name(server, tool)
        if name not in names.values():
            names[tool] = name
    return names
