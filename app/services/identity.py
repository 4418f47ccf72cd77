"""Who is calling."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller, as its token says it. `role` is the database's word; None where no row has been read yet."""

    user_id: UUID
    session_id: UUID
    role: str | None = None
