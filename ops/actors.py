"""Who does something that is audited."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """`name` is who it is in words: an account and host at a command line, a user's id in the admin API, a job's name.

    `address` is where the request came from, where there was one.
    """

    kind: Literal["command", "user", "job"]
    name: str
    user_id: UUID | None = None
    address: str | None = None
