"""Who is calling."""

from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """An API key as it was sent: the id it names, and its SHA-256."""

    id: UUID
    hash: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller, as its token says it. `role` is the database's word; None where no row has been read yet.

    Either `session_id` or `key` is set: a program's API key takes the place of a person's session.
    """

    user_id: UUID
    session_id: UUID | None = None
    role: str | None = None
    key: PresentedKey | None = None
