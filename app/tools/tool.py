"""A tool that a model, a REST caller or an MCP client may call, and the context and result of a call."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from app.enums import KeyScope
from app.outbound.cancellation import CancelToken

BUILTIN = "builtin"  # the source of Parley's own tools
NAME_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"  # what every provider accepts


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The caller and the limits of one call.

    The call has the rights of `user_id`, which is never an argument of a tool. `call_key` is the same when the same
    call is repeated, so a tool may use it as an idempotency key; it has at most 64 characters of URL-safe ASCII.
    `until` is a time of the monotonic clock at which the tool must have returned; `cancel_token` may end it sooner.
    """

    user_id: UUID
    call_key: str
    turn_id: UUID | None = None  # None outside a turn
    conversation_id: UUID | None = None
    project_id: UUID | None = None
    cancel_token: CancelToken = field(default_factory=CancelToken)
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class ToolResult:
    """Result of a call. `content` is the text for the model; `data` is the same as JSON values, if there are any.

    `is_error`: the call failed, and `content` states why.
    """

    content: str
    is_error: bool = False
    data: Any = None


class ToolError(Exception):
    """Failure of a call that the model should read. `message` is a sentence: what is wrong and what to do.

    `uncertain`: the call may have had its effect nevertheless, for example after a timeout.
    """

    def __init__(self, message: str, *, uncertain: bool = False) -> None:
        super().__init__(message)
        self.message, self.uncertain = message, uncertain


Run = Callable[[ToolContext, Mapping[str, Any]], ToolResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool. Call it by `ToolRegistry.call`, which validates, bounds, cleans and counts.

    `run` is called in the application's context, by any thread, without a connection, lock or transaction held. It
    opens its own short ones and must obey `ToolContext.until` and `cancel_token` where it waits. It may raise
    `ToolError`, and `ParleyError` of a service; both become error results. It validates its arguments itself where
    JSON Schema is not enough.

    `input_schema` is a JSON Schema whose type is `object`; `output_schema`, if there is one, is that of each
    `ToolResult.data` that is no error. `repeatable`: a second call with the same arguments and the
    same call key changes nothing more; with `keyed`, one with another key does. `needs_approval`: the user must approve
    each call. `source` is `builtin` or the name of the MCP server; it is a label of metrics.
    """

    name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    run: Run
    repeatable: bool
    read_only: bool
    destructive: bool
    keyed: bool = False
    needs_approval: bool = False
    source: str = BUILTIN
    output_schema: Mapping[str, Any] | None = None
    # As an OpenAI function definition; made once, because each request of a turn sends it.
    definition: dict[str, Any] = field(init=False, repr=False, compare=False)

    @property
    def scope(self) -> KeyScope | None:
        """The scope that an API key needs, as in the REST API; None for tools of MCP servers, which chats call only."""
        if self.source != BUILTIN:
            return None
        return KeyScope.READ if self.read_only else KeyScope.WRITE

    def __post_init__(self) -> None:
        function = {"name": self.name, "description": self.description, "parameters": self.input_schema}
        object.__setattr__(self, "definition", {"type": "function", "function": function})


class ToolSource(Protocol):
    """A source of tools, such as the built-in ones or those of MCP servers."""

    def tools(self, user_id: UUID, project_id: UUID | None) -> Sequence[Tool]:
        """Return the tools that a turn of the user in the project may call, always in the same order.

        Raise nothing, query nothing and never wait for the network: return what is known.
        """
        ...
