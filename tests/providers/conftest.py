"""Fixtures of the provider tests: a fake upstream, and providers that use it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.outbound.timeouts import Timeouts
from app.providers.base import ChatMessage, ChatRequest, Completed, Provider, TextDelta
from app.providers.chat_completions import ChatCompletions
from app.providers.compatible import CompatibleProvider
from tests.fakes.upstream import Upstream

KEY = "sk-test-3f9aQ7_secret-key"
HELLO = ChatRequest([ChatMessage("user", "hello")])

MakeProvider = Callable[..., ChatCompletions]


@dataclass
class Received:
    """The pieces and the end of an answer."""

    pieces: list[str] = field(default_factory=list)
    end: Completed | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def read_answer(provider: Provider, request: ChatRequest = HELLO, received: Received | None = None) -> Received:
    """Read an answer to its end. A given `received` holds the pieces before an error."""
    received = received or Received()
    with provider.stream(request) as events:
        for event in events:
            assert received.end is None, "an event after the end"
            if isinstance(event, TextDelta):
                assert event.text
                received.pieces.append(event.text)
            else:
                received.end = event
    assert received.end is not None
    return received


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture
def make_provider(upstream: Upstream) -> MakeProvider:
    """Return a function that makes a provider of `upstream`; keywords are timeouts in seconds."""

    def make(
        kind: type[ChatCompletions] = CompatibleProvider,
        *,
        url: str | None = None,
        key: str | None = KEY,
        **deadlines: float,
    ) -> ChatCompletions:
        timeouts: dict[str, Any] = {"connect": 5, "first_token": 5, "idle": 5, "total": 10} | deadlines
        return kind(base_url=url or upstream.base_url, api_key=key, model="fake-model", timeouts=Timeouts(**timeouts))

    return make


@pytest.fixture
def provider(make_provider: MakeProvider) -> ChatCompletions:
    return make_provider()
