"""Tokens that reset a password, and the receipt of a deletion that a user has requested.

Locks: none that matter. The new table's foreign key blocks writes to `users` only while it is created; the new column
has no default, so no row is rewritten. The old code writes neither; its erasures give receipts other ids.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.create_table(
        "password_resets",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("octet_length(token_hash) = 32", name=op.f("ck_password_resets_token_hash")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_password_resets_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_password_resets")),
    )
    op.create_index("ix_password_resets_expires_at", "password_resets", ["expires_at"], unique=False)
    op.add_column("erasures_under_way", sa.Column("receipt_id", sa.Uuid(), nullable=True))


def downgrade() -> None:
    op.drop_column("erasures_under_way", "receipt_id")
    op.drop_table("password_resets")
