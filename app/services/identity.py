"""The caller of a request."""

from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """An API key as the caller sent it: the id in it, and its SHA-256."""

    id: UUID
    hash: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller by its token. `role` is None until it was read from the database.

    Either `session_id` or `key` is set: programs call with an API key instead of a session.
    """

    user_id: UUID
    session_id: UUID | None = None
    role: str | None = None
    key: PresentedKey | None = None

    @property
    def credential_id(self) -> UUID:
        """The id of the session or API key."""
        credential_id = self.session_id if self.key is None else self.key.id
        assert credential_id is not None  # noqa: S101  # either is set
        return credential_id
