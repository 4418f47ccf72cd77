"""A running server with the suite's tools, and the programs that are run against it."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Engine

from tests.api.keys import Key, make_key
from tests.factories import insert_user
from tests.mcp.install import PEERS
from tests.web.server import WebServer

Run = Callable[..., subprocess.CompletedProcess[str]]


class McpServer(WebServer):
    """A web server with the tools and resources of the suite. `mcp_url` is its endpoint."""

    wsgi = "tests.mcp.application:flask_app"

    @property
    def mcp_url(self) -> str:
        return f"{self.url}/mcp"


@pytest.fixture(scope="session")
def key(flask_app: Flask, engine: Engine) -> Key:
    """Return the API key that requests without a token get; access tokens end after 15 minutes."""
    return make_key(flask_app, insert_user(flask_app, engine), ["read", "write"])


@pytest.fixture(scope="session")
def server(key: Key, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpServer]:
    home: Path = tmp_path_factory.mktemp("mcp")
    with McpServer(home, DATABASE_URL=database_url, WEB_WORKERS="1", MCP_TEST_TOKEN=key.secret) as server:
        yield server


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs an installed program and returns its output."""

    def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={**PEERS.environment(), **variables},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return run
