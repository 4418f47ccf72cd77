from typing import Any

from sqlalchemy import CheckConstraint, Index, LargeBinary, SmallInteger, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import CreatedAt, Moment, UserOwned


class IdempotencyKey(Base):
    """The response of the first request with an idempotency key, for replays. Turns store their own keys.

    `request_hash` is the SHA-256 of the request, `status` the HTTP status of the response, and `response` its `body` (a
    string) and `location`. The last two are null only within the transaction of the first request.
    """

    __tablename__ = "idempotency_keys"

    user_id: Mapped[UserOwned]
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int | None] = mapped_column(SmallInteger)
    response: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Moment]

    __table_args__ = (
        CheckConstraint("octet_length(request_hash) = 32", name="request_hash"),
        CheckConstraint("status BETWEEN 200 AND 599", name="status"),
        CheckConstraint("status IS NOT NULL OR response IS NULL", name="response"),
        Index("ix_idempotency_keys_expires_at", "expires_at"),
    )
