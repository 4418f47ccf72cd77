"""Callers of `/mcp` in both eras."""

from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from tests.api.mcp.messages import HANDSHAKE, STATELESS, McpCaller
from tests.factories import LoggedInUser


@pytest.fixture
def caller(client: FlaskClient, user: LoggedInUser) -> McpCaller:
    """Return the caller of the current revision."""
    return McpCaller(client, user.headers)


@pytest.fixture
def earlier(caller: McpCaller) -> McpCaller:
    """Return the caller of the last revision with a handshake."""
    return replace(caller, version=HANDSHAKE)


@pytest.fixture(params=[STATELESS, HANDSHAKE])
def either(request: pytest.FixtureRequest, caller: McpCaller) -> McpCaller:
    """Return a caller of each era in turn."""
    return replace(caller, version=request.param)
