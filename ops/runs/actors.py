"""The actor of an audited action."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The caller that the audit records.

    `name` is `login@host` for a command, the user's id for a request to the admin API, the job's name for a job, and
    the network of a request without a valid credential. `address` is the client address of a request.
    """

    kind: Literal["command", "user", "job", "anonymous"]
    name: str
    user_id: UUID | None = None
    address: str | None = None
