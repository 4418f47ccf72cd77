"""Receipts of erasures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from app.database import direct_connection
from app.repositories import user_admin as sql


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReceipt:
    """The receipt of an erasure."""

    id: Annotated[UUID, "Id of the receipt."]
    user_id: Annotated[UUID, "Id of the erased user."]
    requested_by: Annotated[str, "Who requested the erasure."]
    reason: Annotated[str, "Why it was requested."]
    rows: Annotated[Mapping[str, int], "Number of erased rows by table."]
    backups: Annotated[Sequence[Mapping[str, Any]], "Backups that still contain the data: `name` and `expires`."]
    erased_at: Annotated[datetime, "When the user was erased."]
    objects_deleted_at: Annotated[datetime | None, "When the last stored file was deleted; null until then."] = None
    provider_copies_deleted_at: Annotated[
        datetime | None, "When the last copy of a file at a provider was deleted; null until then."
    ] = None


def list_receipts(*, after: UUID | None = None, limit: int = 20) -> list[ErasureReceipt]:
    """Return up to `limit` receipts, newest first, behind the receipt `after`."""
    with direct_connection() as connection:
        return [ErasureReceipt(**row._mapping) for row in sql.ERASED.all(connection, {"after": after, "limit": limit})]
