from sqlalchemy import BigInteger, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import OwnerId


class StoredBytes(Base):
    """A part of the bytes that a user stores, written by triggers; the sum over the user's rows counts.

    A transaction changes a row that no other one has locked, so a user's turns do not wait for each other. It has no
    foreign key, because its check would lock the user's row.
    """

    __tablename__ = "stored_bytes"

    user_id: Mapped[OwnerId]
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    bytes: Mapped[int] = mapped_column(BigInteger)
