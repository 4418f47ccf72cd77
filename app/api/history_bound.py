"""The operator's bound of the history that a project or a request asks for."""

from app.container import services
from app.errors import InvalidInput


def check_history(messages: int | None, path: str) -> None:
    """Raise `InvalidInput` for the field at `path` if `messages` are more than the operator allows."""
    most = services().settings.chat.history_messages
    if messages is not None and messages > most:
        raise InvalidInput(fields={path: [f"At most {most} on this server."]})
