"""The locks of the npm packages: exact versions with hashes, and no address of a registry."""

import re
from pathlib import Path

import orjson
import pytest

from tests.clients.install import SOURCE
from tests.mcp.install import SOURCE as MCP_SOURCE


@pytest.mark.parametrize("source", [SOURCE, MCP_SOURCE], ids=lambda source: source.name)
def test_npm_packages_are_locked_without_registry(source: Path) -> None:
    manifest = orjson.loads((source / "package.json").read_bytes())
    versions = manifest["devDependencies"].values()
    assert [version for version in versions if not re.fullmatch(r"\d+\.\d+\.\d+(-alpha\.\d+)?", version)] == []
    packages = orjson.loads((source / "package-lock.json").read_bytes())["packages"]
    assert packages.pop("")["devDependencies"] == manifest["devDependencies"]
    assert len(packages) > 100
    assert [name for name, package in packages.items() if "integrity" not in package or "resolved" in package] == []
