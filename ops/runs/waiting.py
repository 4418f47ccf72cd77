"""Messages that wait in the broker, or that a worker has received and not acknowledged."""

import base64
import json
from dataclasses import dataclass
from typing import Any

from app.jobs import job_broker


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A message that no worker has finished."""

    id: str
    job: str
    arguments: dict[str, Any]


def find_waiting(message_id: str) -> WaitingMessage | None:
    """Find a message by its id; reads all messages.

    Raises `NotImplementedError` for a broker that does not show its messages, and the errors of its client.
    """
    for raw in job_broker().read_messages():
        if message_id.encode() in raw and (found := _parse(raw)) is not None and found.id == message_id:
            return found
    return None


def _parse(raw: bytes) -> WaitingMessage | None:
    """Parse a message of a queue, or a received one, which is the first of a list; None if it is not a job's."""
    try:
        document = json.loads(raw)
        message = document[0] if isinstance(document, list) else document
        headers, (_, arguments, _) = message["headers"], json.loads(base64.b64decode(message["body"]))
        return WaitingMessage(str(headers["id"]), str(headers["task"]), dict(arguments))
    except (ValueError, TypeError, LookupError):
        return None
