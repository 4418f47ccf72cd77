"""Rows deleted so far by erasures in progress. Locks: none but that of a new table."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "erasures_under_way",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("rows", postgresql.JSONB(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_erasures_under_way")),
    )


def downgrade() -> None:
    op.drop_table("erasures_under_way")
