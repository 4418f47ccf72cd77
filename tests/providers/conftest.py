"""What the providers' tests share: an upstream to misbehave, and a provider that is pointed at it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.providers.base import ChatMessage, ChatRequest, Completed, Provider, TextDelta, Timeouts
from app.providers.chat_completions import ChatCompletions
from app.providers.compatible import CompatibleProvider
from tests.fakes.upstream import Upstream

KEY = "sk-test-3f9aQ7_secret-key"
HELLO = ChatRequest([ChatMessage("user", "hello")])

MakeProvider = Callable[..., ChatCompletions]


@dataclass
class Heard:
    """An answer, read to its end."""

    pieces: list[str] = field(default_factory=list)
    end: Completed | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def listen(provider: Provider, request: ChatRequest = HELLO, heard: Heard | None = None) -> Heard:
    """Read the whole answer; with `heard` given, what came before an error is in it."""
    heard = heard or Heard()
    with provider.stream(request) as events:
        for event in events:
            assert heard.end is None, "something came after the end"
            if isinstance(event, TextDelta):
                assert event.text
                heard.pieces.append(event.text)
            else:
                heard.end = event
    assert heard.end is not None
    return heard


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture
def make_provider(upstream: Upstream) -> MakeProvider:
    """Makes a provider that asks `upstream`; keywords are deadlines in seconds."""

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
