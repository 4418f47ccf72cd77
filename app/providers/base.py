"""What a provider is to the rest of Parley: one method that streams an answer."""

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the context. `tool_calls` is the OpenAI list (id, type, function{name, arguments})."""

    role: Role
    content: str | None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class Hangup:
    """Ends a stream from outside: called in any thread, it closes what the stream's reader is waiting for.

    A provider attaches the closing of whatever it waits on, as soon as there is something; calling before that closes
    it when it comes. The reader then gets a `ProviderError`, and knows by `done` that it was meant.
    """

    def __init__(self) -> None:
        self.done = False
        self._close: Callable[[], None] | None = None
        self._lock = threading.Lock()

    def attach(self, close: Callable[[], None]) -> None:
        """Call `close`, which must not wait, on hanging up; at once if that was before. Replaces what was attached."""
        with self._lock:
            self._close = close
            if self.done:
                close()

    def detach(self) -> None:
        """The stream is over: what it used belongs to somebody else from now on."""
        with self._lock:
            self._close = None

    def __call__(self) -> None:
        with self._lock:
            self.done = True
            if self._close is not None:
                self._close()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What to answer. `tools` are OpenAI function definitions; `model` None means the provider's default.

    `options` are further parameters in OpenAI's names (`temperature`, `max_output_tokens`); a provider takes those it
    knows and ignores the rest. `until` is a moment of the monotonic clock: the whole answer must be there by then, or
    by the provider's own total deadline if that is nearer.
    """

    messages: Sequence[ChatMessage]
    model: str | None = None
    tools: Sequence[dict[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    hangup: Hangup = field(default_factory=Hangup)
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them; None where it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer's text; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The end of a stream: always its last event, exactly once.

    `finish_reason` is stop, length, tool_calls or content_filter, or what the provider said. `model` is the one that
    really answered. `tool_calls` are whole, in the OpenAI shape, never pieces.
    """

    finish_reason: str
    model: str
    usage: Usage = field(default_factory=Usage)
    tool_calls: list[dict[str, Any]] | None = None


StreamEvent = TextDelta | Completed


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines in seconds: to connect, to the first event, between two events, and for the whole answer."""

    connect: float = 5
    first_token: float = 60
    idle: float = 30
    total: float = 300


class Provider(ABC):
    """An AI provider.

    `stream` opens the request when entered and closes the connection when left, however it is left: a consumer that
    goes away must never leave the provider talking. The iterator yields `TextDelta`s, then one `Completed`; a stream
    that ends without its end raises `ProviderBadAnswer`. Every failure, in entering or in iterating, is a
    `ProviderError` of `app.errors`; no vendor's exception leaves the adapter, and no key or body appears in a message.
    Instances are shared by all threads of a process.
    """

    name: str
    default_model: str

    @abstractmethod
    def stream(self, request: ChatRequest) -> AbstractContextManager[Iterator[StreamEvent]]:
        """Answer `request` piece by piece."""

    def models(self) -> list[str]:
        """The names of its models, as far as it tells them: bounded in number, time and bytes. Raises ProviderError."""
        return [self.default_model]

    def second_opinion(self, model: str, question: str, seconds: float) -> str | None:
        """What another client than ours is answered; None if there is none to ask with. Raises ProviderError."""
        return None

    @abstractmethod
    def ping(self, seconds: float) -> None:
        """See within `seconds` that the provider is there and takes our key, without asking for anything that costs.

        Raises `ProviderError` where it is not, or does not.
        """
