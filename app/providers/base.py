"""The base class of AI providers, with the requests they take and the events they yield."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from app.outbound.cancellation import CancelToken
from app.providers.file_parts import FileParts

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the context. `tool_calls` is the OpenAI list (id, type, function{name, arguments}).

    `files` are parts of the user's files that stand before the `content`.
    """

    role: Role
    content: str | None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    files: FileParts | None = None

    def text(self, *, with_images: bool = False) -> str | None:
        """Return all text of the message: the parts of files, if any, and the content."""
        if self.files is None:
            return self.content
        return f"{self.files.text(with_images=with_images)}\n\n{self.content or ''}"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request for an answer. `tools` are OpenAI function definitions; `model` None means the provider's default.

    With `answer_only` the model must not call the tools, which are sent because the messages have calls of them.

    `options` are further parameters by OpenAI's names (`temperature`, `max_output_tokens`); a provider ignores those it
    does not support. `until` is a time of the monotonic clock: the complete answer must have arrived by then, or by the
    provider's own total deadline if that is nearer.
    """

    messages: Sequence[ChatMessage]
    model: str | None = None
    tools: Sequence[dict[str, Any]] = ()
    answer_only: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    cancel_token: CancelToken = field(default_factory=CancelToken)
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them; None if it sent no count."""

    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer's text; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The end of a stream: always its last event, exactly once.

    `finish_reason` is stop, length, tool_calls, content_filter or the provider's own word. `model` is the model that
    answered. `tool_calls` are complete, in the OpenAI shape. `dropped_options` are the request's options that the model
    rejected, so that it answered without them; `images` stands for all images of its messages.
    """

    finish_reason: str
    model: str
    usage: Usage = field(default_factory=Usage)
    tool_calls: list[dict[str, Any]] | None = None
    dropped_options: tuple[str, ...] = ()


StreamEvent = TextDelta | Completed


class Provider(ABC):
    """An AI provider. Instances are shared by all threads of a process.

    Every failure is a `ProviderError` of `app.errors`; no exception of a vendor's library leaves the adapter, and no
    detail contains a key or anything that the vendor sent.
    """

    name: str
    default_model: str

    @abstractmethod
    def stream(self, request: ChatRequest) -> AbstractContextManager[Iterator[StreamEvent]]:
        """Answer `request` in pieces.

        Entering sends the request; leaving, in any way, closes the connection, so that the provider stops generating.
        The iterator yields `TextDelta`s, then one `Completed`. Entering and iterating raise `ProviderError`; an answer
        without a proper end raises `ProviderProtocolError`.
        """

    def models(self) -> list[str]:
        """Return the names of the provider's models, bounded in number, time and bytes. Raises `ProviderError`."""
        return [self.default_model]

    def cross_check(self, model: str, question: str, seconds: float) -> str | None:
        """Return the answer that another client library gets, or None without one. Raises `ProviderError`."""
        return None

    @abstractmethod
    def ping(self, seconds: float) -> None:
        """Check within `seconds` that the provider is reachable and accepts the key, by a request that costs nothing.

        Raises `ProviderError`.
        """
