"""Breaking the glass: what a conversation says, for an operator who gives a reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from app.errors import InvalidInput
from app.services.exports import as_markdown, open_export
from ops.actors import Actor
from ops.audit import audited

SHORTEST_REASON = 10  # characters


@contextmanager
def opened_conversation(*, user_id: UUID, conversation_id: UUID, by: Actor, reason: str) -> Iterator[Iterator[bytes]]:
    """The conversation as Markdown, in pieces. That it was read, by whom and why, is written down beforehand.

    Raises `NotFound`; `InvalidInput` where the reason says nothing.
    """
    if len(reason.strip()) < SHORTEST_REASON:
        raise InvalidInput(fields={"reason": [f"Say in {SHORTEST_REASON} characters or more why you must read this."]})
    details = {"reason": reason.strip(), "account": str(user_id)}
    with audited(by=by, action="conversation.read", on=str(conversation_id), details=details):
        yield as_markdown(open_export(user_id, conversation_id))
