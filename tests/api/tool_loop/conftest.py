"""An application with small limits of tools, and the tools of a recorder."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from app.container import services
from tests.api.conftest import parse_events
from tests.factories import LoggedInUser
from tests.fakes.upstream import Upstream
from tests.tools.fixed import Recorder

Rows = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def chat_app(make_chat_app: Callable[..., Flask]) -> Flask:
    return make_chat_app(
        tools={"max_rounds": 3, "parallel": 2, "call_timeout": 3, "total_timeout": 60, "total_result_chars": 1000}
    )


@pytest.fixture
def tools(chat_app: Flask) -> Iterator[Recorder]:
    """Offer only the tools of a recorder during the test."""
    recorder = Recorder()
    with chat_app.app_context():
        registry = services().tools
    sources, registry._sources = registry._sources, ()
    registry.add(recorder.source)
    yield recorder
    recorder.released.set()
    registry._sources = sources


@pytest.fixture
def messages(rows: Rows, user: LoggedInUser) -> Callable[[], list[Any]]:
    """Return a function that reads the user's stored messages."""
    query = "SELECT position, role, content, tool_calls, tool_call_id, metadata FROM messages WHERE user_id = :u"
    return lambda: rows(f"{query} ORDER BY conversation_id, position", u=user.id)


def sent(upstream: Upstream, number: int = -1) -> Any:
    """Return the body of a request to the provider."""
    return upstream.requests[number].body


def ids_in(seen: bytes) -> tuple[str, str]:
    """Return the ids of turn and conversation in the first events of a stream."""
    started = next(data for _, kind, data in parse_events(seen) if kind == "turn.started")
    return started["turn"]["id"], started["conversation"]["id"]
