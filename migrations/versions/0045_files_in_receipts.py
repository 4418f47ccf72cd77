"""Receipts of erasures say when the stored files, and their copies at providers, were deleted.

Objects and copies whose deletion is due name the receipt that waits for them. Receipts that stand already get the time
of the next run of the jobs.

Locks: three tables for a moment each, for columns without a default; the indexes are built concurrently.
"""

import sqlalchemy as sa
from alembic import op

revision = "0045"
down_revision = "0042"

INDEXES = {
    "ix_file_removals_receipt": ("file_removals", "receipt_id IS NOT NULL"),
    "ix_provider_file_removals_receipt": ("provider_file_removals", "receipt_id IS NOT NULL"),
}


def upgrade() -> None:
    op.add_column("erasures", sa.Column("objects_deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("erasures", sa.Column("provider_copies_deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("file_removals", sa.Column("receipt_id", sa.Uuid(), nullable=True))
    op.add_column("provider_file_removals", sa.Column("receipt_id", sa.Uuid(), nullable=True))
    with op.get_context().autocommit_block():
        for name, (table, condition) in INDEXES.items():
            op.create_index(
                name, table, ["receipt_id"], postgresql_where=sa.text(condition), postgresql_concurrently=True
            )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name, (table, _) in INDEXES.items():
            op.drop_index(name, table_name=table, postgresql_concurrently=True)
    op.drop_column("provider_file_removals", "receipt_id")
    op.drop_column("file_removals", "receipt_id")
    op.drop_column("erasures", "provider_copies_deleted_at")
    op.drop_column("erasures", "objects_deleted_at")
