"""Break-glass access: an operator reads a user's content, with a reason that is written to the audit first."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from uuid import UUID

from app.container import current_settings
from app.services.exports import as_markdown, open_export
from app.services.file_store import open_file_store
from app.services.user_exports import UserExport, open_user_export
from ops.runs.actors import Actor
from ops.runs.audit import audited
from ops.runs.reasons import checked_reason


@contextmanager
def audited_conversation(*, user_id: UUID, conversation_id: UUID, by: Actor, reason: str) -> Iterator[Iterator[bytes]]:
    """Yield the conversation as Markdown, in chunks. The access is written to the audit before.

    Raises `NotFound`, and `InvalidInput` for a reason out of bounds.
    """
    details = {"reason": checked_reason(reason), "account": str(user_id)}
    with audited(actor=by, action="conversation.read", target=str(conversation_id), details=details):
        yield as_markdown(open_export(user_id, conversation_id))


@contextmanager
def audited_user_data(*, user_id: UUID, by: Actor, reason: str) -> Iterator[UserExport]:
    """Yield an export of all the user's data. The access is written to the audit before, the counts afterwards.

    Raises `NotFound`, and `InvalidInput` for a reason out of bounds.
    """
    with audited(
        actor=by, action="user.export", target=str(user_id), details={"reason": checked_reason(reason)}
    ) as notes:
        export = open_user_export(user_id, partial(open_file_store, current_settings()))
        try:
            yield export
        finally:
            notes["rows"], notes["conversations"] = export.rows, export.conversations
            notes["unread"] = export.unread
            notes["file_contents"], notes["unread_files"] = export.files.written, export.files.unread
