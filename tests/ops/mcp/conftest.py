"""An application with a private host, and a scripted MCP server."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine, text

from app.config import Settings
from app.extensions import db
from tests.contracts.application import as_served
from tests.fakes.mcp import ScriptedMcp, text_result, tool
from tests.fakes.upstream import Upstream

SECRET = "s3cr3t-value-of-a-header-91ab"


def with_keys(settings: Settings, current: str = "k" * 32, *previous: str) -> Settings:
    """Return settings that allow 127.0.0.1 and have these keys of secrets."""
    changes = {
        "private_hosts": ("127.0.0.1",),
        "secrets_key": SecretStr(current),
        "secrets_previous_keys": tuple(map(SecretStr, previous)),
    }
    return replace(settings, mcp_servers=settings.mcp_servers.model_copy(update=changes))


@pytest.fixture(scope="module")
def served(settings: Settings, flask_app: Flask) -> Iterator[Flask]:
    served = as_served(with_keys(settings))
    yield served
    with served.app_context():
        db.engine.dispose()


@pytest.fixture
def server() -> ScriptedMcp:
    return ScriptedMcp(
        [tool("forecast", "Forecasts the weather."), tool("delete_all", "Deletes.")], {"forecast": text_result("sunny")}
    )


@pytest.fixture
def upstream(server: ScriptedMcp) -> Iterator[Upstream]:
    with Upstream(server.script) as running:
        yield running


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    """Return a name for a server, which is deleted after the test."""
    name = f"w{uuid4().hex[:16]}"
    yield name
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM mcp_servers WHERE name = :name"), {"name": name})


def mcp_url(upstream: Upstream) -> str:
    return f"http://127.0.0.1:{upstream.port}/mcp"
