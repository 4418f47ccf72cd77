from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, LargeBinary, String, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.enums import KeyScope
from app.extensions import Base
from app.models.columns import CreatedAt, OwnId, UserOwned

_SCOPES = ", ".join(f"'{scope}'" for scope in KeyScope)


class ApiKey(Base):
    """An API key, with the access of its owner limited to `scopes`. Stores the SHA-256 of the key, never the key.

    The key contains the primary key of its row, so no index on the hashes is needed. `last_used_at` is up to two
    minutes old.
    """

    __tablename__ = "api_keys"

    user_id: Mapped[UserOwned]
    id: Mapped[OwnId]
    name: Mapped[str] = mapped_column(String(100))
    prefix: Mapped[str] = mapped_column(String(16))  # first characters of the key, so that people can identify it
    key_hash: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint("octet_length(key_hash) = 32", name="key_hash"),
        CheckConstraint(f"cardinality(scopes) > 0 AND scopes <@ ARRAY[{_SCOPES}]", name="scopes"),
    )
