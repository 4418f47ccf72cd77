"""Acknowledged findings of the doctor. Locks: none but that of a new table."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "check_acknowledgements",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("check_id", sa.String(length=100), nullable=False),
        sa.Column("object", sa.String(length=500), server_default=sa.text("''"), nullable=False),
        sa.Column("level", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=False),
        sa.Column("acknowledged_by", sa.String(length=255), nullable=False),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("char_length(reason) BETWEEN 1 AND 1000", name=op.f("ck_check_acknowledgements_reason")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_check_acknowledgements")),
        sa.UniqueConstraint("check_id", "object", name="uq_check_acknowledgements_finding"),
    )


def downgrade() -> None:
    op.drop_table("check_acknowledgements")
