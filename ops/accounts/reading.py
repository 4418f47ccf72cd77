"""Breaking the glass: what somebody's conversations say, for an operator who gives a reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from app.errors import InvalidInput
from app.services.account_exports import AccountExport, open_account
from app.services.exports import as_markdown, open_export
from ops.actors import Actor
from ops.audit import audited

SHORTEST_REASON = 10  # characters


@contextmanager
def opened_conversation(*, user_id: UUID, conversation_id: UUID, by: Actor, reason: str) -> Iterator[Iterator[bytes]]:
    """The conversation as Markdown, in pieces. That it was read, by whom and why, is written down beforehand.

    Raises `NotFound`; `InvalidInput` where the reason says nothing.
    """
    details = {"reason": _reason(reason), "account": str(user_id)}
    with audited(by=by, action="conversation.read", on=str(conversation_id), details=details):
        yield as_markdown(open_export(user_id, conversation_id))


@contextmanager
def opened_account(*, user_id: UUID, by: Actor, reason: str) -> Iterator[AccountExport]:
    """Everything that somebody has. That it was asked for is written down beforehand, and afterwards what was read.

    Raises `NotFound`; `InvalidInput` where the reason says nothing.
    """
    with audited(by=by, action="user.export", on=str(user_id), details={"reason": _reason(reason)}) as notes:
        export = open_account(user_id)
        try:
            yield export
        finally:
            notes["rows"], notes["conversations"] = export.rows, export.conversations
            notes["unread"] = export.unread


def _reason(reason: str) -> str:
    if len(reason.strip()) < SHORTEST_REASON:
        raise InvalidInput(fields={"reason": [f"Say in {SHORTEST_REASON} characters or more why you must read this."]})
    return reason.strip()
