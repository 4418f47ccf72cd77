"""The receipt of a deletion that a user has requested, by its id, which only that user was given."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.database import autocommit
from app.errors import NotFound
from app.repositories import erasure as sql

PENDING, ERASED = "pending", "erased"


@dataclass(frozen=True, slots=True)
class DeletionReceipt:
    """A requested deletion. `backups_until` is the latest time at which a backup with the data expires, if known.

    `files_deleted_at` is when the last file was deleted in the store, `provider_copies_deleted_at` at a provider.
    """

    receipt_id: UUID
    status: str
    erased_at: datetime | None = None
    rows: Mapping[str, int] | None = None
    backups: int | None = None
    backups_until: datetime | None = None
    files_deleted_at: datetime | None = None
    provider_copies_deleted_at: datetime | None = None


def get(receipt_id: UUID) -> DeletionReceipt:
    """Return the state of a requested deletion. Raises `NotFound`."""
    with autocommit() as connection:
        row = sql.RECEIPT_OF_REQUEST.one(connection, {"receipt_id": receipt_id})
    if row is None:
        raise NotFound("There is no such deletion.")
    if row.erased_at is None:
        return DeletionReceipt(receipt_id, PENDING)
    expiries = [datetime.fromisoformat(backup["expires"]) for backup in row.backups if backup.get("expires")]
    return DeletionReceipt(
        receipt_id,
        ERASED,
        erased_at=row.erased_at,
        rows=row.rows,
        backups=len(row.backups),
        backups_until=max(expiries, default=None),
        files_deleted_at=row.objects_deleted_at,
        provider_copies_deleted_at=row.provider_copies_deleted_at,
    )
